"""Prove properties of iptables rule sets, or show the packet that breaks them."""

__version__ = "0.1.0"
