"""Models outside of streams: what holds their tensors, and how it is read and written."""
