"""What was told of a packet, confirmed in the Linux kernel, or not."""
