"""The concrete wing against the kernel: rule sets, hosts and packets drawn at random, and what differs made small."""
