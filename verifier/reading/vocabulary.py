"""Names that stand for numbers in rules: services, ICMP types, classes of service, levels of a log.

They come from the tables here, never from the machine that reads: a port whose name means different numbers on
different systems (http-alt) is not among them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..values import Ipv6Extension

ICMP_TYPES: Mapping[str, tuple[int | None, int | None]] = {
    "any": (None, None),
    "echo-reply": (0, None), "pong": (0, None),
    "destination-unreachable": (3, None),
    "network-unreachable": (3, 0), "host-unreachable": (3, 1), "protocol-unreachable": (3, 2),
    "port-unreachable": (3, 3), "fragmentation-needed": (3, 4), "source-route-failed": (3, 5),
    "network-unknown": (3, 6), "host-unknown": (3, 7), "network-prohibited": (3, 9),
    "host-prohibited": (3, 10), "tos-network-unreachable": (3, 11), "tos-host-unreachable": (3, 12),
    "communication-prohibited": (3, 13), "host-precedence-violation": (3, 14), "precedence-cutoff": (3, 15),
    "source-quench": (4, None),
    "redirect": (5, None), "network-redirect": (5, 0), "host-redirect": (5, 1),
    "tos-network-redirect": (5, 2), "tos-host-redirect": (5, 3),
    "echo-request": (8, None), "ping": (8, None),
    "router-advertisement": (9, None), "router-solicitation": (10, None),
    "time-exceeded": (11, None), "ttl-exceeded": (11, None),
    "ttl-zero-during-transit": (11, 0), "ttl-zero-during-reassembly": (11, 1),
    "parameter-problem": (12, None), "ip-header-bad": (12, 0), "required-option-missing": (12, 1),
    "timestamp-request": (13, None), "timestamp-reply": (14, None),
    "address-mask-request": (17, None), "address-mask-reply": (18, None),
}  # fmt: skip
"""The names that `iptables -p icmp -h` lists."""

ICMP6_TYPES: Mapping[str, tuple[int, int | None]] = {
    "destination-unreachable": (1, None),
    "no-route": (1, 0), "communication-prohibited": (1, 1), "beyond-scope": (1, 2), "address-unreachable": (1, 3),
    "port-unreachable": (1, 4), "failed-policy": (1, 5), "reject-route": (1, 6),
    "packet-too-big": (2, None),
    "time-exceeded": (3, None), "ttl-exceeded": (3, None),
    "ttl-zero-during-transit": (3, 0), "ttl-zero-during-reassembly": (3, 1),
    "parameter-problem": (4, None), "bad-header": (4, 0), "unknown-header-type": (4, 1), "unknown-option": (4, 2),
    "echo-request": (128, None), "ping": (128, None), "echo-reply": (129, None), "pong": (129, None),
    "mld-listener-query": (130, None), "mld-listener-report": (131, None), "mld-listener-done": (132, None),
    "mld-listener-reduction": (132, None),
    "router-solicitation": (133, None), "router-advertisement": (134, None),
    "neighbour-solicitation": (135, None), "neighbor-solicitation": (135, None),
    "neighbour-advertisement": (136, None), "neighbor-advertisement": (136, None),
    "redirect": (137, None),
}  # fmt: skip
"""The names that `ip6tables -p icmpv6 -h` lists; those of MLD since 1.8.10."""

TOS = {
    "minimize-delay": 0x10, "maximize-throughput": 0x08, "maximize-reliability": 0x04, "minimize-cost": 0x02,
    "normal-service": 0x00,
}  # fmt: skip
"""Types of service, in the bits of 0x3f."""

DSCP_CLASSES = {
    "BE": 0x00, "EF": 0x2E,
    **{f"CS{n}": n << 3 for n in range(8)},
    **{f"AF{n}{m}": n << 3 | m << 1 for n in range(1, 5) for m in range(1, 4)},
}  # fmt: skip
"""DSCP values (libxt_dscp's dscp_helper.c)."""

CHUNKS = {
    "DATA": 0, "INIT": 1, "INIT_ACK": 2, "SACK": 3, "HEARTBEAT": 4, "HEARTBEAT_ACK": 5, "ABORT": 6, "SHUTDOWN": 7,
    "SHUTDOWN_ACK": 8, "ERROR": 9, "COOKIE_ECHO": 10, "COOKIE_ACK": 11, "ECN_ECNE": 12, "ECN_CWR": 13,
    "SHUTDOWN_COMPLETE": 14, "I_DATA": 64, "ASCONF_ACK": 128, "RE_CONFIG": 130, "PAD": 132, "FORWARD_TSN": 192,
    "ASCONF": 193, "I_FORWARD_TSN": 194,
}  # fmt: skip
"""SCTP chunk types."""

DCCP_TYPES = (
    "REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK", "INVALID",
)  # fmt: skip

IPV6_HEADERS: Mapping[str, Ipv6Extension] = {
    "hop-by-hop": Ipv6Extension.HOP, "hop": Ipv6Extension.HOP, "0": Ipv6Extension.HOP,
    "ipv6-opts": Ipv6Extension.DST, "dst": Ipv6Extension.DST, "60": Ipv6Extension.DST,
    "ipv6-route": Ipv6Extension.ROUTE, "route": Ipv6Extension.ROUTE, "43": Ipv6Extension.ROUTE,
    "ipv6-frag": Ipv6Extension.FRAG, "frag": Ipv6Extension.FRAG, "44": Ipv6Extension.FRAG,
    "ah": Ipv6Extension.AUTH, "auth": Ipv6Extension.AUTH, "51": Ipv6Extension.AUTH,
    "esp": Ipv6Extension.ESP, "50": Ipv6Extension.ESP,
    "ipv6-nonxt": Ipv6Extension.NONE, "none": Ipv6Extension.NONE, "59": Ipv6Extension.NONE,
    "protocol": Ipv6Extension.PROTO, "prot": Ipv6Extension.PROTO, "255": Ipv6Extension.PROTO,
}  # fmt: skip
"""Extension headers as `-m ipv6header` names them; the first name of each is iptables-save's."""

LOG_LEVELS = {
    "alert": 1, "crit": 2, "debug": 7, "emerg": 0, "error": 3, "info": 6, "notice": 5, "panic": 0, "warning": 4,
}  # fmt: skip

REJECT_TYPES = {
    "icmp-net-unreachable": "net-unreach", "icmp-host-unreachable": "host-unreach",
    "icmp-proto-unreachable": "proto-unreach", "icmp-port-unreachable": "port-unreach",
    "icmp-net-prohibited": "net-prohib", "icmp-host-prohibited": "host-prohib",
    "tcp-reset": "tcp-rst", "icmp-admin-prohibited": "admin-prohib",
}  # fmt: skip
"""The answers that REJECT can give, with their short names."""

REJECT6_TYPES = {
    "icmp6-no-route": "no-route", "icmp6-adm-prohibited": "adm-prohibited", "icmp6-addr-unreachable": "addr-unreach",
    "icmp6-port-unreachable": "port-unreach", "tcp-reset": "tcp-reset", "icmp6-policy-fail": "policy-fail",
    "icmp6-reject-route": "reject-route",
}  # fmt: skip
"""The same in ip6tables."""

SERVICES = {
    "tcpmux": 1, "echo": 7, "discard": 9, "systat": 11, "daytime": 13, "netstat": 15, "qotd": 17,
    "chargen": 19, "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37, "whois": 43,
    "nicname": 43, "tacacs": 49, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "gopher": 70,
    "finger": 79, "http": 80, "www": 80, "kerberos": 88, "pop3": 110, "pop-3": 110, "sunrpc": 111,
    "portmapper": 111, "auth": 113, "ident": 113, "nntp": 119, "ntp": 123, "epmap": 135, "netbios-ns": 137,
    "netbios-dgm": 138, "netbios-ssn": 139, "imap": 143, "imap2": 143, "snmp": 161, "snmp-trap": 162,
    "snmptrap": 162, "xdmcp": 177, "bgp": 179, "ldap": 389, "svrloc": 427, "https": 443, "microsoft-ds": 445,
    "kpasswd": 464, "submissions": 465, "isakmp": 500, "exec": 512, "biff": 512, "login": 513, "who": 513,
    "shell": 514, "syslog": 514, "printer": 515, "talk": 517, "ntalk": 518, "route": 520, "uucp": 540,
    "klogin": 543, "kshell": 544, "rtsp": 554, "dhcpv6-client": 546, "dhcpv6-server": 547, "nntps": 563,
    "submission": 587, "ipp": 631, "ldaps": 636, "kerberos-adm": 749, "domain-s": 853, "rsync": 873,
    "ftps-data": 989, "ftps": 990, "telnets": 992, "imaps": 993, "pop3s": 995, "socks": 1080,
    "rmiregistry": 1099, "openvpn": 1194, "ms-sql-s": 1433, "ms-sql-m": 1434, "l2tp": 1701, "radius": 1812,
    "radius-acct": 1813, "cisco-sccp": 2000, "nfs": 2049, "gnunet": 2086, "iscsi-target": 3260,
    "mysql": 3306, "ms-wbt-server": 3389, "nut": 3493, "distcc": 3632, "daap": 3689, "svn": 3690,
    "epmd": 4369, "ipsec-nat-t": 4500, "iax": 4569, "sip": 5060, "sip-tls": 5061, "xmpp-client": 5222,
    "xmpp-server": 5269, "mdns": 5353, "postgresql": 5432, "postgres": 5432, "amqps": 5671, "amqp": 5672,
    "x11": 6000, "redis": 6379, "ircd": 6667, "font-service": 7100, "zabbix-agent": 10050,
    "zabbix-trapper": 10051, "git": 9418,
}  # fmt: skip
