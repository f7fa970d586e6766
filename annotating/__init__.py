"""The annotation of finished conversations by several workers."""
