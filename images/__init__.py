"""Image chat's own data: the file of images with their contexts, and the stack of (image, model) places."""
