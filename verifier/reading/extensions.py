"""The extensions of iptables 1.8, and the options that each of them adds to a rule.

An option that takes a value ends in `=`, one that takes two in `==`.  The tables hold what any revision
of an extension registers, so an option is never taken for another module's, and never for a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

_PORTS = "source-port= sport= destination-port= dport="
_HASHLIMIT = (
    "hashlimit-upto= hashlimit-above= hashlimit= hashlimit-srcmask= hashlimit-dstmask= hashlimit-burst= "
    "hashlimit-htable-size= hashlimit-htable-max= hashlimit-htable-gcinterval= hashlimit-htable-expire= "
    "hashlimit-mode= hashlimit-name= hashlimit-rate-match hashlimit-rate-interval="
)
_CONNTRACK = (
    "ctstate= ctproto= ctorigsrc= ctorigdst= ctreplsrc= ctrepldst= ctstatus= ctexpire= ctorigsrcport= "
    "ctorigdstport= ctreplsrcport= ctrepldstport= ctdir="
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
    "match-set== set== return-nomatch update-counters packets-eq= packets-lt= packets-gt= bytes-eq= bytes-lt= "
    "bytes-gt= update-subcounters"
)

MATCHES: Mapping[str, str] = {
    "addrtype": "src-type= dst-type= limit-iface-in limit-iface-out",
    "ah": "ahspi=",
    "bpf": "bytecode= object-pinned=",
    "cgroup": "path= cgroup=",
    "cluster": "cluster-total-nodes= cluster-local-node= cluster-local-nodemask= cluster-hash-seed=",
    "comment": "comment=",
    "connbytes": "connbytes= connbytes-dir= connbytes-mode=",
    "connlabel": "label= set",
    "connlimit": "connlimit-upto= connlimit-above= connlimit-mask= connlimit-saddr connlimit-daddr",
    "connmark": "mark=",
    "conntrack": _CONNTRACK,
    "cpu": "cpu=",
    "dccp": f"{_PORTS} dccp-types= dccp-option=",
    "devgroup": "src-group= dst-group=",
    "dscp": "dscp= dscp-class=",
    "ecn": "ecn-tcp-cwr ecn-tcp-ece ecn-ip-ect=",
    "esp": "espspi=",
    "hashlimit": _HASHLIMIT,
    "helper": "helper=",
    "icmp": "icmp-type=",
    "ipcomp": "ipcompspi= compres",
    "iprange": "src-range= dst-range=",
    "ipvs": "ipvs vproto= vaddr= vport= vdir= vmethod= vportctl=",
    "length": "length=",
    "limit": "limit= limit-burst=",
    "mac": "mac-source=",
    "mark": "mark=",
    "multiport": "source-ports= sports= destination-ports= dports= ports=",
    "nfacct": "nfacct-name=",
    "osf": "genre= ttl= log=",
    "owner": "uid-owner= gid-owner= pid-owner= sid-owner= cmd-owner= socket-exists suppl-groups",
    "physdev": "physdev-in= physdev-out= physdev-is-in physdev-is-out physdev-is-bridged",
    "pkttype": "pkt-type=",
    "policy": "dir= pol= strict reqid= spi= tunnel-src= tunnel-dst= proto= mode= next",
    "quota": "quota=",
    "rateest": _RATEEST,
    "realm": "realm=",
    "recent": "set rcheck update remove seconds= reap hitcount= rttl name= rsource rdest mask=",
    "rpfilter": "loose validmark accept-local invert",
    "sctp": f"{_PORTS} chunk-types==",
    "set": _SET,
    "socket": "transparent nowildcard restore-skmark",
    "state": "state=",
    "statistic": "mode= probability= every= packet=",
    "string": "from= to= algo= string= hex-string= icase",
    "tcp": f"{_PORTS} syn tcp-flags== tcp-option=",
    "tcpmss": "mss=",
    "time": "datestart= datestop= timestart= timestop= contiguous weekdays= monthdays= localtz utc kerneltz",
    "tos": "tos=",
    "ttl": "ttl-lt= ttl-gt= ttl-eq= ttl=",
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
    "DSCP": "set-dscp= set-dscp-class=",
    "ECN": "ecn-tcp-remove ecn-tcp-cwr= ecn-tcp-ece= ecn-ip-ect=",
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

MODELLED = frozenset(
    {"tcp", "udp", "sctp", "dccp", "icmp", "multiport", "owner", "conntrack", "state", "mark", "comment"}
    | {"MARK", "REDIRECT", "DNAT", "REJECT"}
)
"""The extensions that we read; whatever else a rule loads is opaque."""

STANDARD = ("ACCEPT", "DROP", "RETURN", "QUEUE")
"""Targets that no chain can be named after."""

IPV6_ONLY = frozenset(
    {
        "DNPT",
        "HL",
        "SNPT",
        "dst",
        "eui64",
        "frag",
        "hbh",
        "hl",
        "icmp6",
        "icmpv6",
        "ipv6header",
        "mh",
        "rt",
        "srh",
    }
)

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
    return MappingProxyType({word.rstrip("="): word.count("=") for word in listed.split()})


def canonical(name: str) -> str:
    """One name for the spellings of one option."""
    return _ALIASES.get(name, name)
