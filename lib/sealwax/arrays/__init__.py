"""Arrays as pure values: how they are described, chunked, encoded and classified."""
