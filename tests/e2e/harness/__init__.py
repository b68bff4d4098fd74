"""What the end-to-end tests are made of: the real binary, a byte-level client, a scriptable engine."""
