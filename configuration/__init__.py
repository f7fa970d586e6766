"""What a requester gives (flags, JSON, YAML and HTML files), read and checked before anything is launched."""
