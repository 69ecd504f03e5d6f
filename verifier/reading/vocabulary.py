"""Names that stand for numbers in rules: services, ICMP types, classes of service, levels of a log.

They come from the tables here, never from the machine that reads.
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

SERVICES: Mapping[str, int] = {
    "tcpmux": 1, "echo": 7, "discard": 9, "sink": 9, "null": 9, "systat": 11, "users": 11, "daytime": 13,
    "netstat": 15, "qotd": 17, "quote": 17, "chargen": 19, "ttytst": 19, "source": 19, "ftp-data": 20, "ftp": 21,
    "fsp": 21, "fspd": 21, "ssh": 22, "telnet": 23, "smtp": 25, "mail": 25, "time": 37, "timserver": 37,
    "whois": 43, "nicname": 43, "tacacs": 49, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "gopher": 70,
    "finger": 79, "http": 80, "www": 80, "kerberos": 88, "kerberos5": 88, "krb5": 88, "kerberos-sec": 88,
    "iso-tsap": 102, "tsap": 102, "acr-nema": 104, "poppassd": 106, "pop3": 110, "pop-3": 110, "sunrpc": 111,
    "portmapper": 111, "auth": 113, "ident": 113, "authentication": 113, "tap": 113, "nntp": 119, "readnews": 119,
    "untp": 119, "ntp": 123, "epmap": 135, "loc-srv": 135, "netbios-ns": 137, "netbios-dgm": 138,
    "netbios-ssn": 139, "imap": 143, "imap2": 143, "snmp": 161, "snmp-trap": 162, "snmptrap": 162, "cmip-man": 163,
    "cmip-agent": 164, "mailq": 174, "xdmcp": 177, "bgp": 179, "smux": 199, "qmtp": 209, "z3950": 210, "wais": 210,
    "ipx": 213, "ptp-event": 319, "ptp-general": 320, "pawserv": 345, "zserv": 346, "rpc2portmap": 369,
    "codaauth2": 370, "clearcase": 371, "Clearcase": 371, "ldap": 389, "svrloc": 427, "https": 443, "snpp": 444,
    "microsoft-ds": 445, "kpasswd": 464, "submissions": 465, "ssmtp": 465, "smtps": 465, "urd": 465, "saft": 487,
    "isakmp": 500, "exec": 512, "biff": 512, "comsat": 512, "login": 513, "who": 513, "whod": 513, "shell": 514,
    "syslog": 514, "cmd": 514, "printer": 515, "spooler": 515, "talk": 517, "ntalk": 518, "route": 520,
    "router": 520, "routed": 520, "gdomap": 538, "uucp": 540, "uucpd": 540, "klogin": 543, "kshell": 544,
    "krcmd": 544, "dhcpv6-client": 546, "dhcpv6-server": 547, "afpovertcp": 548, "rtsp": 554, "nntps": 563,
    "snntp": 563, "submission": 587, "nqs": 607, "asf-rmcp": 623, "qmqp": 628, "ipp": 631, "ldaps": 636, "ldp": 646,
    "tinc": 655, "silc": 706, "kerberos-adm": 749, "kerberos4": 750, "kerberos-iv": 750, "kdc": 750,
    "kerberos-master": 751, "kerberos_master": 751, "passwd-server": 752, "passwd_server": 752, "krb-prop": 754,
    "krb_prop": 754, "krb5_prop": 754, "hprop": 754, "moira-db": 775, "moira_db": 775, "moira-update": 777,
    "moira_update": 777, "moira-ureg": 779, "moira_ureg": 779, "spamd": 783, "domain-s": 853, "supfilesrv": 871,
    "rsync": 873, "ftps-data": 989, "ftps": 990, "telnets": 992, "imaps": 993, "pop3s": 995, "socks": 1080,
    "proofd": 1093, "rootd": 1094, "rmiregistry": 1099, "supfiledbg": 1127, "skkserv": 1178, "openvpn": 1194,
    "predict": 1210, "rmtcfg": 1236, "xtel": 1313, "xtelw": 1314, "lotusnote": 1352, "lotusnotes": 1352,
    "ms-sql-s": 1433, "ms-sql-m": 1434, "ingreslock": 1524, "datametrics": 1645, "old-radius": 1645,
    "sa-msg-port": 1646, "old-radacct": 1646, "kermit": 1649, "groupwise": 1677, "l2tp": 1701, "l2f": 1701,
    "radius": 1812, "radius-acct": 1813, "radacct": 1813, "cisco-sccp": 2000, "nfs": 2049, "gnunet": 2086,
    "rtcm-sc104": 2101, "zephyr-srv": 2102, "zephyr-clt": 2103, "zephyr-hm": 2104, "gsigatekeeper": 2119,
    "iprop": 2121, "gris": 2135, "etcd-client": 2379, "etcd-server": 2380, "cvspserver": 2401, "venus": 2430,
    "venus-se": 2431, "codasrv": 2432, "codasrv-se": 2433, "mon": 2583, "zebrasrv": 2600, "zebra": 2601,
    "ripd": 2602, "ripngd": 2603, "ospfd": 2604, "bgpd": 2605, "ospf6d": 2606, "ospfapi": 2607, "isisd": 2608,
    "dict": 2628, "f5-globalsite": 2792, "gsiftp": 2811, "gpsd": 2947, "gds-db": 3050, "gds_db": 3050,
    "icpv2": 3130, "icp": 3130, "isns": 3205, "iscsi-target": 3260, "mysql": 3306, "ms-wbt-server": 3389,
    "nut": 3493, "distcc": 3632, "daap": 3689, "svn": 3690, "subversion": 3690, "suucp": 4031, "sysrqd": 4094,
    "sieve": 4190, "f5-iquery": 4353, "epmd": 4369, "remctl": 4373, "ntske": 4460, "ipsec-nat-t": 4500, "fax": 4557,
    "hylafax": 4559, "iax": 4569, "mtn": 4691, "radmin-port": 4899, "munin": 4949, "lrrd": 4949,
    "commplex-main": 5000, "commplex-link": 5001, "sip": 5060, "sip-tls": 5061, "xmpp-client": 5222,
    "jabber-client": 5222, "xmpp-server": 5269, "jabber-server": 5269, "cfengine": 5308, "mdns": 5353,
    "postgresql": 5432, "postgres": 5432, "rplay": 5555, "freeciv": 5556, "rptp": 5556, "nrpe": 5666, "nsca": 5667,
    "amqps": 5671, "amqp": 5672, "canna": 5680, "rfb": 5900, "vnc-server": 5900, "x11": 6000, "x11-0": 6000,
    "x11-1": 6001, "x11-2": 6002, "x11-3": 6003, "x11-4": 6004, "x11-5": 6005, "x11-6": 6006, "x11-7": 6007,
    "gnutella-svc": 6346, "gnutella-rtr": 6347, "redis": 6379, "sge-qmaster": 6444, "sge_qmaster": 6444,
    "sge-execd": 6445, "sge_execd": 6445, "mysql-proxy": 6446, "syslog-tls": 6514, "sane-port": 6566, "sane": 6566,
    "saned": 6566, "ircd": 6667, "babel": 6696, "ircs-u": 6697, "bbs": 7000, "afs3-fileserver": 7000,
    "afs3-callback": 7001, "afs3-prserver": 7002, "afs3-vlserver": 7003, "afs3-kaserver": 7004, "afs3-volser": 7005,
    "afs3-bos": 7007, "afs3-update": 7008, "afs3-rmtsys": 7009, "font-service": 7100, "xfs": 7100, "zope-ftp": 8021,
    "http-alt": 8080, "webcache": 8080, "tproxy": 8081, "omniorb": 8088, "puppet": 8140, "pcsync-https": 8443,
    "clc-build-daemon": 8990, "cslistener": 9000, "websm": 9090, "zeus-admin": 9090, "xinetd": 9098,
    "pdl-datastream": 9100, "hp-pdl-datastr": 9100, "bacula-dir": 9101, "bacula-fd": 9102, "bacula-sd": 9103,
    "git": 9418, "xmms2": 9667, "zope": 9673, "webmin": 10000, "zabbix-agent": 10050, "zabbix-trapper": 10051,
    "amanda": 10080, "kamanda": 10081, "amandaidx": 10082, "amidxtape": 10083, "nbd": 10809, "hkp": 11371,
    "sgi-cmsd": 17001, "sgi-crsd": 17002, "sgi-gcd": 17003, "sgi-cad": 17004, "db-lsp": 17500, "dcap": 22125,
    "gsidcap": 22128, "wnn6": 22273, "binkp": 24554, "mongodb": 27017, "asp": 27374, "csync2": 30865,
    "dircproxy": 57000, "tfido": 60177, "fido": 60179,
}  # fmt: skip
"""The services of Debian's /etc/services, and some that IANA alone names.  A name of two ports is not among them (dicom)."""

ELSEWHERE: Mapping[str, int] = {"http-alt": 8008}
"""Services whose port in a listing is another one on Red Hat's systems."""
