"""The third reading: rules loaded by the real iptables in a throw-away network namespace, packets sent, and what the kernel did.

What is needed is root, iptables and iproute2; no library is.  Nothing here knows what a match means.
"""
