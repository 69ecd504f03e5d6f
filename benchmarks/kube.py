"""Rule sets of the kind that kube-proxy keeps in a cluster, of any size, as iptables-save prints them.

    python benchmarks/kube.py SERVICES [ENDPOINTS] > kube.rules

For every service a rule in KUBE-SERVICES and a chain that marks what comes from outside the pods and spreads the
rest over the service's endpoints; for every endpoint a chain of its own with a DNAT.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

PODS, SERVICES = 0x0A800000, 0x0A600000
"""10.128.0.0/9 and 10.96.0.0/12."""


def rules(services: int, endpoints: int = 3) -> str:
    """Table filter and table nat; about 2 + 3 * endpoints rules a service."""
    body = [line for n in range(services) for line in _service(n, endpoints)]
    heads = [f":{word} - [0:0]" for word in dict.fromkeys(line.split()[1] for line in body)]
    return "\n".join(
        [*_FILTER, *_NAT, *sorted(heads), *_FIXED, *sorted(body, key=_chain), _LAST, "COMMIT", ""]
    )


def _chain(line: str) -> str:
    return line.split()[1]


def _service(n: int, endpoints: int) -> Iterator[str]:
    name, chain, vip = f"ns{n % 50}/svc{n}:http", f"KUBE-SVC-{_hash(n)}", _address(SERVICES + n + 1)
    say = f'-m comment --comment "{name} cluster IP"'
    yield f"-A KUBE-SERVICES -d {vip}/32 -p tcp {say} -m tcp --dport 80 -j {chain}"
    yield f"-A {chain} ! -s 10.128.0.0/9 -d {vip}/32 -p tcp {say} -m tcp --dport 80 -j KUBE-MARK-MASQ"
    for m in range(endpoints):
        pod = n * endpoints + m + 1
        own, address = f"KUBE-SEP-{_hash(~pod)}", _address(PODS + pod)
        left = endpoints - m
        chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
        yield f"-A {chain} {chance}-j {own}"
        yield f"-A {own} -s {address}/32 -j KUBE-MARK-MASQ"
        yield f"-A {own} -p tcp -m tcp -j DNAT --to-destination {address}:8080"


def _hash(n: int) -> str:
    """Sixteen letters and digits that look like nothing, as kube-proxy's are: in another order than the numbers."""
    mixed = (n * 0x9E3779B97F4A7C15 + 0x1234567) % (1 << 80) * 0xD1342543DE82EF95 % (1 << 80)
    return "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[mixed >> 5 * k & 31] for k in range(16))


def _address(n: int) -> str:
    return ".".join(str(octet) for octet in n.to_bytes(4))


_FILTER = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT""".splitlines()

_NAT = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]""".splitlines()

_FIXED = """-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully""".splitlines()

_LAST = "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"


if __name__ == "__main__":
    print(rules(*map(int, sys.argv[1:])), end="")
