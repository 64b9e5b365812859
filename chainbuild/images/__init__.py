"""Images: resolving references, provenance, attachments, and the engine's local image store."""
