"""Images and labels from any source, as checked arrays."""
