"""The extensions of iptables 1.8, and the options that each of them adds to a rule.

An option that takes a value ends in `=`, one that takes two in `==`; one that `!` may stand before begins with it
(of the extensions that we read).  The tables hold what any revision of an extension registers, so an option is never
taken for another module's, and never for a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

_PORTS = "!source-port= !sport= !destination-port= !dport="
_HASHLIMIT = (
    "!hashlimit-upto= !hashlimit-above= !hashlimit= hashlimit-srcmask= hashlimit-dstmask= hashlimit-burst= "
    "hashlimit-htable-size= hashlimit-htable-max= hashlimit-htable-gcinterval= hashlimit-htable-expire= "
    "hashlimit-mode= hashlimit-name= hashlimit-rate-match hashlimit-rate-interval="
)
_CONNTRACK = (
    "!ctstate= !ctproto= !ctorigsrc= !ctorigdst= !ctreplsrc= !ctrepldst= !ctstatus= !ctexpire= !ctorigsrcport= "
    "!ctorigdstport= !ctreplsrcport= !ctrepldstport= ctdir="
)
_CONNMARK = (
    "set-xmark= set-mark= and-mark= or-mark= xor-mark= save-mark restore-mark left-shift-mark= "
    "right-shift-mark= ctmask= nfmask= mask="
)
_HMARK = (
    "hmark-tuple= hmark-src-prefix= hmark-dst-prefix= hmark-sport-mask= hmark-dport-mask= hmark-spi-mask= "
    "hmark-sport= hmark-dport= hmark-spi= hmark-proto-mask= hmark-rnd= hmark-mod= hmark-offset="
)
_RATEEST = (
    "rateest1= rateest= rateest2= rateest-bps1 rateest-pps1 rateest-bps2 rateest-pps2 rateest-bps rateest-pps "
    "rateest-delta rateest-lt rateest-gt rateest-eq"
)
_SET = (
    "!match-set== !set== return-nomatch !update-counters !packets-eq= packets-lt= packets-gt= !bytes-eq= bytes-lt= "
    "bytes-gt= !update-subcounters"
)

MATCHES: Mapping[str, str] = {
    "addrtype": "!src-type= !dst-type= limit-iface-in limit-iface-out",
    "ah": "!ahspi= !ahlen= ahres",
    "bpf": "bytecode= object-pinned=",
    "cgroup": "path= cgroup=",
    "cluster": "cluster-total-nodes= cluster-local-node= cluster-local-nodemask= cluster-hash-seed=",
    "comment": "comment=",
    "connbytes": "connbytes= connbytes-dir= connbytes-mode=",
    "connlabel": "label= set",
    "connlimit": "!connlimit-upto= !connlimit-above= connlimit-mask= connlimit-saddr connlimit-daddr",
    "connmark": "!mark=",
    "conntrack": _CONNTRACK,
    "cpu": "cpu=",
    "dccp": f"{_PORTS} !dccp-types= !dccp-option=",
    "devgroup": "src-group= dst-group=",
    "dst": "dst-len= dst-opts= dst-not-strict",
    "dscp": "!dscp= !dscp-class=",
    "ecn": "ecn-tcp-cwr ecn-tcp-ece ecn-ip-ect=",
    "esp": "!espspi=",
    "eui64": "",
    "frag": "fragid= fraglen= fragres fragfirst fragmore fraglast",
    "hashlimit": _HASHLIMIT,
    "hbh": "hbh-len= hbh-opts= hbh-not-strict",
    "helper": "helper=",
    "hl": "hl-lt= hl-gt= !hl-eq= !hl=",
    "icmp": "!icmp-type=",
    "icmp6": "!icmpv6-type=",
    "ipcomp": "ipcompspi= compres",
    "iprange": "!src-range= !dst-range=",
    "ipv6header": "!header= soft",
    "ipvs": "ipvs vproto= vaddr= vport= vdir= vmethod= vportctl=",
    "length": "!length=",
    "limit": "limit= limit-burst=",
    "mac": "!mac-source=",
    "mark": "!mark=",
    "mh": "mh-type=",
    "multiport": "!source-ports= !sports= !destination-ports= !dports= !ports=",
    "nfacct": "nfacct-name=",
    "osf": "genre= ttl= log=",
    "owner": "!uid-owner= !gid-owner= !pid-owner= !sid-owner= !cmd-owner= !socket-exists suppl-groups",
    "physdev": "!physdev-in= !physdev-out= !physdev-is-in !physdev-is-out !physdev-is-bridged",
    "pkttype": "!pkt-type=",
    "policy": "dir= pol= strict reqid= spi= tunnel-src= tunnel-dst= proto= mode= next",
    "quota": "!quota=",
    "rateest": _RATEEST,
    "realm": "realm=",
    "recent": "!set !rcheck !update !remove seconds= reap hitcount= rttl name= rsource rdest mask=",
    "rpfilter": "loose validmark accept-local invert",
    "rt": "rt-type= rt-segsleft= rt-len= rt-0-res rt-0-addrs= rt-0-not-strict",
    "sctp": f"{_PORTS} !chunk-types==",
    "set": _SET,
    "srh": (
        "srh-next-hdr= srh-hdr-len-eq= srh-hdr-len-gt= srh-hdr-len-lt= srh-segs-left-eq= srh-segs-left-gt= "
        "srh-segs-left-lt= srh-last-entry-eq= srh-last-entry-gt= srh-last-entry-lt= srh-tag= srh-psid= srh-nsid= srh-lsid="
    ),
    "socket": "transparent nowildcard restore-skmark",
    "state": "!state=",
    "statistic": "mode= !probability= !every= packet=",
    "string": "from= to= algo= string= hex-string= icase",
    "tcp": f"{_PORTS} !syn !tcp-flags== !tcp-option=",
    "tcpmss": "mss=",
    "time": "datestart= datestop= timestart= timestop= contiguous !weekdays= !monthdays= localtz utc kerneltz",
    "tos": "!tos=",
    "ttl": "ttl-lt= ttl-gt= !ttl-eq= !ttl=",
    "u32": "u32=",
    "udp": _PORTS,
}

TARGETS: Mapping[str, str] = {
    "AUDIT": "type=",
    "CHECKSUM": "checksum-fill",
    "CLASSIFY": "set-class=",
    "CLUSTERIP": "new hashmode= clustermac= total-nodes= local-node= hash-init=",
    "CONNMARK": _CONNMARK,
    "CONNSECMARK": "save restore",
    "CT": "notrack helper= timeout= ctevents= expevents= zone-orig= zone-reply= zone=",
    "DNAT": "to-destination= random persistent",
    "DNPT": "src-pfx= dst-pfx=",
    "DSCP": "set-dscp= set-dscp-class=",
    "ECN": "ecn-tcp-remove ecn-tcp-cwr= ecn-tcp-ece= ecn-ip-ect=",
    "HL": "hl-set= hl-dec= hl-inc=",
    "HMARK": _HMARK,
    "IDLETIMER": "timeout= label= alarm",
    "LED": "led-trigger-id= led-delay= led-always-blink",
    "LOG": "log-level= log-prefix= log-tcp-sequence log-tcp-options log-ip-options log-uid log-macdecode",
    "MARK": "set-xmark= set-mark= and-mark= or-mark= xor-mark=",
    "MASQUERADE": "to-ports= random random-fully",
    "NETMAP": "to=",
    "NFLOG": "nflog-group= nflog-prefix= nflog-range= nflog-size= nflog-threshold=",
    "NFQUEUE": "queue-num= queue-balance= queue-bypass queue-cpu-fanout",
    "NOTRACK": "",
    "RATEEST": "rateest-name= rateest-interval= rateest-ewmalog=",
    "REDIRECT": "to-ports= random random-fully",
    "REJECT": "reject-with=",
    "SECMARK": "selctx=",
    "SET": "add-set== del-set== exist timeout= map-set== map-mark map-prio map-queue",
    "SNPT": "src-pfx= dst-pfx=",
    "SNAT": "to-source= random random-fully persistent",
    "SYNPROXY": "sack-perm timestamp wscale= mss= ecn",
    "TCPMSS": "set-mss= clamp-mss-to-pmtu",
    "TCPOPTSTRIP": "strip-options=",
    "TEE": "gateway= oif=",
    "TOS": "set-tos= and-tos= or-tos= xor-tos=",
    "TPROXY": "on-port= on-ip= tproxy-mark=",
    "TRACE": "",
    "TTL": "ttl-set= ttl-dec= ttl-inc=",
    "ULOG": "ulog-nlgroup= ulog-prefix= ulog-cprange= ulog-qthreshold=",
}

CHANCES = frozenset({"connlimit", "hashlimit", "limit", "quota", "recent", "statistic", "time"})
"""Matches that no packet decides."""

LOGS = frozenset({"AUDIT", "CHECKSUM", "CLASSIFY", "LOG", "NFLOG", "TRACE", "ULOG"})
"""Targets that no later rule can tell to have been applied."""

MODELLED = (
    CHANCES | LOGS
    | {
        "addrtype", "ah", "comment", "connmark", "conntrack", "dccp", "dscp", "esp", "hl", "icmp", "icmp6", "iprange",
        "ipv6header", "length", "mac", "mark", "multiport", "owner", "physdev", "pkttype", "rpfilter", "sctp", "set",
        "socket", "state", "tcp", "tos", "ttl", "udp",
    }
    | {
        "CONNMARK", "CT", "DNAT", "DSCP", "HL", "MARK", "MASQUERADE", "NETMAP", "NFQUEUE", "NOTRACK", "REDIRECT",
        "REJECT", "SET", "SNAT", "TCPMSS", "TOS", "TPROXY", "TTL",
    }
) - {"ULOG"}  # fmt: skip
"""The extensions that we read; whatever else a rule loads is opaque."""

EXCLUSIVE: Mapping[str, tuple[str, ...]] = {
    "addrtype": ("limit-iface-in limit-iface-out",),
    "connlimit": ("connlimit-upto connlimit-above", "connlimit-saddr connlimit-daddr"),
    "dscp": ("dscp dscp-class",),
    "hashlimit": ("hashlimit hashlimit-upto hashlimit-above",),
    "hl": ("hl hl-eq hl-lt hl-gt",),
    "multiport": ("sports dports ports",),
    "recent": ("set rcheck update remove",),
    "set": ("match-set set", "packets-eq packets-lt packets-gt", "bytes-eq bytes-lt bytes-gt"),
    "statistic": ("probability every",),
    "tcp": ("syn tcp-flags",),
    "time": ("utc kerneltz localtz",),
    "ttl": ("ttl ttl-eq ttl-lt ttl-gt",),
    "CONNMARK": ("set-xmark set-mark and-mark or-mark xor-mark save-mark restore-mark", "mask nfmask", "mask ctmask"),
    "DSCP": ("set-dscp set-dscp-class",),
    "HL": ("hl-set hl-dec hl-inc",),
    "MARK": ("set-xmark set-mark and-mark or-mark xor-mark",),
    "NFLOG": ("nflog-range nflog-size",),
    "NFQUEUE": ("queue-num queue-balance",),
    "TOS": ("set-tos and-tos or-tos xor-tos",),
    "TTL": ("ttl-set ttl-dec ttl-inc",),
}  # fmt: skip
"""Options of an extension of which one rules out the others."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "addrtype": ("src-type dst-type",),
    "comment": ("comment",),
    "connlimit": ("connlimit-upto connlimit-above",),
    "connmark": ("mark",),
    "conntrack": (
        "ctstate ctproto ctorigsrc ctorigdst ctreplsrc ctrepldst ctstatus ctexpire ctorigsrcport ctorigdstport "
        "ctreplsrcport ctrepldstport ctdir",
    ),
    "dscp": ("dscp dscp-class",),
    "hashlimit": ("hashlimit-upto hashlimit-above hashlimit", "hashlimit-name"),
    "hl": ("hl-eq hl-lt hl-gt hl",),
    "icmp": ("icmp-type",),
    "icmp6": ("icmpv6-type",),
    "iprange": ("src-range dst-range",),
    "ipv6header": ("header",),
    "length": ("length",),
    "mac": ("mac-source",),
    "mark": ("mark",),
    "multiport": ("dports sports ports",),
    "owner": ("uid-owner gid-owner socket-exists pid-owner sid-owner cmd-owner",),
    "physdev": ("physdev-in physdev-out physdev-is-in physdev-is-out physdev-is-bridged",),
    "pkttype": ("pkt-type",),
    "quota": ("quota",),
    "recent": ("set rcheck update remove",),
    "set": ("match-set set",),
    "state": ("state",),
    "statistic": ("mode", "probability every"),
    "tos": ("tos",),
    "ttl": ("ttl-eq ttl-lt ttl-gt ttl",),
    "AUDIT": ("type",),
    "CHECKSUM": ("checksum-fill",),
    "CLASSIFY": ("set-class",),
    "CONNMARK": ("set-mark set-xmark and-mark or-mark xor-mark save-mark restore-mark",),
    "DNAT": ("to-destination",),
    "DSCP": ("set-dscp set-dscp-class",),
    "HL": ("hl-set hl-dec hl-inc",),
    "MARK": ("set-mark set-xmark and-mark or-mark xor-mark",),
    "NETMAP": ("to",),
    "SET": ("add-set del-set map-set",),
    "SNAT": ("to-source",),
    "TCPMSS": ("set-mss clamp-mss-to-pmtu",),
    "TOS": ("set-tos and-tos or-tos xor-tos",),
    "TPROXY": ("on-port",),
    "TTL": ("ttl-set ttl-dec ttl-inc",),
}
"""Options of an extension of which each line has to be there, by one of its names."""

STANDARD = ("ACCEPT", "DROP", "RETURN", "QUEUE")
"""Targets that no chain can be named after."""

IPV4_ONLY = frozenset({"CLUSTERIP", "ECN", "TTL", "ULOG", "icmp", "osf", "realm", "ttl"})
IPV6_ONLY = frozenset(
    {"DNPT", "HL", "SNPT", "dst", "eui64", "frag", "hbh", "hl", "icmp6", "ipv6header", "mh", "rt", "srh"}
)
"""Extensions that only one family has."""

FOREIGN_MATCHES = frozenset({
    "account", "asn", "childlevel", "condition", "dhcpmac", "fuzzy", "geoip", "gradm", "iface", "ipp2p",
    "iplimit", "ipv4options", "layer7", "length2", "lscan", "nth", "ndpi", "pknock", "psd", "quota2",
    "random", "unclean",
})  # fmt: skip
FOREIGN_TARGETS = frozenset({
    "ACCOUNT", "BALANCE", "CHAOS", "DELUDE", "DHCPMAC", "DNETMAP", "ECHO", "IMQ", "IPMARK", "LOGMARK",
    "MIRROR", "PROTO", "RAWDNAT", "RAWSNAT", "SAME", "STEAL", "SYSRQ", "TARPIT",
})  # fmt: skip
"""Extensions of other projects and of former versions, whose options we do not list."""

OTHER_NAMES = {"icmpv6": "icmp6", "ipv6-icmp": "icmp6"}
"""Modules that can be loaded by another name."""

_ALIASES = {
    "source-port": "sport", "destination-port": "dport", "source-ports": "sports", "destination-ports": "dports",
    "src": "source", "dst": "destination",
}  # fmt: skip

GLOBAL = (
    "source= src= destination= dst= protocol= in-interface= out-interface= fragments match= jump= goto= "
    "set-counters== ipv4 ipv6 table= append= insert= delete= check= replace= list list-rules flush zero "
    "new-chain= delete-chain rename-chain== policy== numeric verbose wait wait-interval= exact line-numbers "
    "modprobe= version help"
)
SHORT = {
    "s": "source", "d": "destination", "p": "protocol", "i": "in-interface", "o": "out-interface",
    "f": "fragments", "m": "match", "j": "jump", "g": "goto", "c": "set-counters", "4": "ipv4", "6": "ipv6",
    "t": "table", "A": "append", "I": "insert", "D": "delete", "C": "check", "R": "replace", "L": "list",
    "S": "list-rules", "F": "flush", "Z": "zero", "N": "new-chain", "X": "delete-chain", "E": "rename-chain",
    "P": "policy", "n": "numeric", "v": "verbose", "w": "wait", "W": "wait-interval", "x": "exact",
    "M": "modprobe", "V": "version", "h": "help",
}  # fmt: skip


@cache
def options(listed: str) -> Mapping[str, int]:
    """How many values each option takes, from a list of options as above."""
    return MappingProxyType({word.strip("!="): word.count("=") for word in listed.split()})


@cache
def can_be_negated(listed: str) -> frozenset[str]:
    """The options of a list that `!` may stand before, each by its one name."""
    return frozenset(canonical(word.strip("!=")) for word in listed.split() if word.startswith("!"))


def canonical(name: str) -> str:
    """One name for the spellings of one option."""
    return _ALIASES.get(name, name)
