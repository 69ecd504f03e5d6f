"""Facts of netfilter as a table: rules, a packet, and the rules that it takes and how it ends; each is named after what it shows.

`path` names the rules in order, as `nat/OUTPUT 1`, and the ends that a packet passes: `out IF` behind POSTROUTING, `local` behind INPUT.
Policies are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from verifier.hooks import BUILT_IN
from verifier.hosts import Host, Process
from verifier.journeys import FromOutside, FromProcess
from verifier.packets import Packet
from verifier.values import IdSet, TcpFlag, read_address

from .hosts import host, interface, route

FLAGS = {"SYN": TcpFlag.SYN, "ACK": TcpFlag.ACK, "RST": TcpFlag.RST, "FIN": TcpFlag.FIN, "ECE": TcpFlag.ECE}
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "gre": 47}


class Fact(Struct, frozen=True):
    """`rules` are `TABLE ARGUMENTS`; `sends` is `IF|app|raw|grouped PROTO SRC[:PORT] > DST[:PORT] [FLAGS] [uid N] [gid N] [mark N] [ttl N]`."""

    name: str
    rules: tuple[str, ...]
    sends: str
    path: str
    sysctls: Mapping[str, int] = field(default_factory=dict)
    strict: bool = False
    """Whether conntrack takes no connection from its middle."""
    only: str | None = None
    """The backend that it is about, where they differ."""

    def __str__(self) -> str:
        return self.name

    def text(self) -> str:
        """What iptables-restore loads: chains of the user's own are those that rules are appended to or that they call."""
        out = []
        for table in dict.fromkeys(line.split()[0] for line in self.rules):
            mine = [line.partition(" ")[2] for line in self.rules if line.split()[0] == table]
            policies = {m[1]: m[2] for m in (re.match(r"-P (\S+) (\S+)", line) for line in mine) if m}
            own = dict.fromkeys(line.split()[1] for line in mine if line.split()[1] not in BUILT_IN[table])
            heads = [f":{chain} {policies.get(chain, 'ACCEPT')} [0:0]" for chain in BUILT_IN[table]]
            heads += [f":{chain} - [0:0]" for chain in own]
            out += [f"*{table}", *heads, *(line for line in mine if line.startswith("-A")), "COMMIT"]
        return "\n".join([*out, ""])

    def host(self) -> Host:
        anyone = IdSet.read("any")
        made = host(
            interface("eth0", "10.0.0.5/24", "10.0.0.6/24"),
            interface("eth1", "10.0.1.5/24"),
            interface("eth2"),
            routes=(route("0.0.0.0/0", "eth0", via="10.0.0.1"),),
            processes=(
                Process("app", anyone, anyone),
                Process("raw", anyone, anyone, raw=True),
                Process("grouped", anyone, anyone, supplementary=(50, 60)),
            ),
            sysctls=self.sysctls,
        )
        return replace(
            made, sysctls={**made.sysctls, "net.netfilter.nf_conntrack_tcp_loose": int(not self.strict)}
        )

    def packet(self) -> tuple[FromOutside | FromProcess, Packet]:
        who, protocol, source, _, destination, *rest = self.sends.split()
        src, _, sport = source.partition(":")
        dst, _, dport = destination.partition(":")
        words = {
            rest[i]: rest[i + 1]
            for i in range(len(rest) - 1)
            if rest[i] in ("uid", "gid", "mark", "ttl", "type")
        }
        flags = next((w for w in rest if w.split("+")[0] in (*FLAGS, "none")), "SYN")
        made = Packet(
            read_address(src),
            read_address(dst),
            PROTOCOLS[protocol],
            int(sport or 0),
            int(dport or 0),
            sum(FLAGS.get(f, 0) for f in flags.split("+")) if protocol == "tcp" else 0,
            icmp_type=int(words.get("type", 8)) if protocol == "icmp" else 0,
            ttl=int(words.get("ttl", 64)),
        )
        if who not in ("app", "raw", "grouped"):
            return FromOutside(who), made
        ids = {"uid": int(words.get("uid", 1000)), "gid": int(words.get("gid", 1000))}
        return FromProcess(who), replace(made, **ids, mark=int(words.get("mark", "0"), 0))


TO_POD = "eth0 tcp 8.8.8.8:4000 > 10.0.0.5:80"
TO_WORLD = "app tcp 10.0.0.5:4000 > 9.9.9.9:80"
TO_SELF = "app tcp 127.0.0.1:4000 > 127.0.0.1:80"
THROUGH = "eth0 tcp 8.8.8.8:4000 > 10.0.1.7:80"
FORWARDING = {"ip_forward": 1}
EVERYWHERE = tuple(
    f"{t} -A {c} -p tcp" for t in ("raw", "mangle", "nat", "filter", "security") for c in BUILT_IN[t]
)
TRACKED = "filter -A INPUT -m conntrack --ctstate NEW -m mark --mark 99"
"""A rule that switches conntrack on, and matches nothing."""
ON = (*EVERYWHERE, TRACKED)
MARKS = "mangle -A PREROUTING -j MARK --set-mark 1"

FACTS = (
    # -- hooks, tables, order
    Fact(
        "1 what arrives for this host passes raw, mangle and nat, is routed, then passes mangle, filter, security and nat",
        ON, TO_POD,
        "raw/PREROUTING 1 mangle/PREROUTING 1 nat/PREROUTING 1 mangle/INPUT 1 filter/INPUT 1 security/INPUT 1 nat/INPUT 1 local",
        only="legacy",
    ),
    Fact(
        "4 nft asks nat before security at INPUT",
        ON, TO_POD,
        "raw/PREROUTING 1 mangle/PREROUTING 1 nat/PREROUTING 1 mangle/INPUT 1 filter/INPUT 1 nat/INPUT 1 security/INPUT 1 local",
        only="nft",
    ),
    Fact(
        "2 what is forwarded passes FORWARD and POSTROUTING",
        ON, THROUGH,
        "raw/PREROUTING 1 mangle/PREROUTING 1 nat/PREROUTING 1 mangle/FORWARD 1 filter/FORWARD 1 security/FORWARD 1 "
        "mangle/POSTROUTING 1 nat/POSTROUTING 1 out eth1",
        FORWARDING,
    ),
    Fact(
        "3 what is sent passes OUTPUT and POSTROUTING",
        ON, TO_WORLD,
        "raw/OUTPUT 1 mangle/OUTPUT 1 nat/OUTPUT 1 filter/OUTPUT 1 security/OUTPUT 1 mangle/POSTROUTING 1 nat/POSTROUTING 1 out eth0",
    ),
    Fact(
        "8 INVALID packets skip nat",
        ("nat -A PREROUTING -p tcp -j REDIRECT --to-ports 81", "filter -A INPUT -m conntrack --ctstate INVALID"),
        f"{TO_POD} RST", "filter/INPUT 1 local",
    ),
    Fact(
        "8 and so do UNTRACKED ones",
        ("raw -A PREROUTING -j CT --notrack", "nat -A PREROUTING -p tcp -j REDIRECT --to-ports 81", "filter -A INPUT -m conntrack --ctstate UNTRACKED"),
        TO_POD, "raw/PREROUTING 1 filter/INPUT 1 local",
    ),
    Fact("9 without a user of conntrack nat is never asked", ("nat -A PREROUTING -j ACCEPT",), TO_POD, "local"),
    Fact(
        "9 a match of conntrack anywhere switches it on",
        ("nat -A PREROUTING -j ACCEPT", "raw -A OUTPUT -m conntrack --ctstate NEW"), TO_POD, "nat/PREROUTING 1 local",
    ),
    Fact(
        "10 the destination is translated at PREROUTING, and the source behind everything else at POSTROUTING",
        ("nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.1.9", "mangle -A FORWARD -s 8.8.8.8 -d 10.0.1.9",
         "nat -A POSTROUTING -p tcp -j SNAT --to-source 10.0.1.5", "mangle -A POSTROUTING -s 8.8.8.8"),
        TO_POD, "nat/PREROUTING 1 mangle/FORWARD 1 mangle/POSTROUTING 1 nat/POSTROUTING 1 out eth1", FORWARDING,
    ),
    Fact(
        "11 over lo neither nat PREROUTING nor nat INPUT is asked",
        ON, TO_SELF,
        "raw/OUTPUT 1 mangle/OUTPUT 1 nat/OUTPUT 1 filter/OUTPUT 1 security/OUTPUT 1 mangle/POSTROUTING 1 nat/POSTROUTING 1 out lo "
        "raw/PREROUTING 1 mangle/PREROUTING 1 mangle/INPUT 1 filter/INPUT 1 security/INPUT 1 local",
    ),
    Fact(
        "11 nor for an address of another interface",
        ("nat -A PREROUTING -j REDIRECT", TRACKED), "app tcp 10.0.0.5:4000 > 10.0.1.5:80", "out lo local",
    ),
    Fact(
        "12 the mark survives lo and the owner does not",
        ("mangle -A OUTPUT -j MARK --set-mark 7", "mangle -A INPUT -m mark --mark 7", "mangle -A POSTROUTING -m owner --uid-owner 1000",
         "filter -A INPUT -i lo"),
        TO_SELF, "mangle/OUTPUT 1 mangle/POSTROUTING 1 out lo mangle/INPUT 1 filter/INPUT 1 local",
    ),
    Fact("14 a policy of nat may be DROP", ("nat -P PREROUTING DROP", TRACKED), TO_POD, ""),
    # -- routing
    Fact(
        "20 every chain of OUTPUT sees the first out-interface, and POSTROUTING the new one",
        ("nat -A OUTPUT -p tcp -j REDIRECT --to-ports 81", "filter -A OUTPUT -o eth0 -d 127.0.0.1", "filter -A OUTPUT -o lo",
         "mangle -A POSTROUTING -o lo", "mangle -A POSTROUTING -o eth0"),
        TO_WORLD, "nat/OUTPUT 1 filter/OUTPUT 1 mangle/POSTROUTING 1 out lo local",
    ),
    Fact(
        "21 a new port alone is not routed anew",
        ("nat -A OUTPUT -p tcp -j DNAT --to-destination :81", "mangle -A POSTROUTING -o eth0 -p tcp --dport 81"),
        TO_WORLD, "nat/OUTPUT 1 mangle/POSTROUTING 1 out eth0",
    ),
    Fact(
        "22 a mark set in mangle OUTPUT routes a raw packet from 127/8 anew, which fails",
        ("mangle -A OUTPUT -j MARK --set-mark 7",), "raw tcp 127.0.0.1:4000 > 9.9.9.9:80", "mangle/OUTPUT 1",
    ),
    Fact(
        "22 and so does a TOS byte",
        ("mangle -A OUTPUT -j TOS --set-tos 0x10/0xff",), "raw tcp 127.0.0.1:4000 > 9.9.9.9:80", "mangle/OUTPUT 1",
    ),
    Fact(
        "22 a mark set in raw, nat or filter does not",
        ("raw -A OUTPUT -j MARK --set-mark 7", "nat -A OUTPUT -j MARK --set-mark 8", "filter -A OUTPUT -j MARK --set-mark 9", TRACKED),
        "raw tcp 127.0.0.1:4000 > 9.9.9.9:80", "raw/OUTPUT 1 nat/OUTPUT 1 filter/OUTPUT 1 out eth0",
    ),
    Fact(
        "22 to a multicast address the new route is where the source lives",
        ("nat -A OUTPUT -j DNAT --to-destination 224.0.0.9", "mangle -A POSTROUTING -o eth1"),
        "app udp 10.0.1.5:4000 > 9.9.9.9:80", "nat/OUTPUT 1 mangle/POSTROUTING 1 out eth1",
    ),
    Fact(
        "23 a re-route that fails drops",
        ("nat -A OUTPUT -p tcp -j DNAT --to-destination 9.9.9.9", "filter -A OUTPUT -p tcp"), "app tcp 127.0.0.1:4000 > 127.0.0.2:80", "nat/OUTPUT 1",
    ),
    Fact(
        "23 but not with route_localnet",
        ("nat -A OUTPUT -p tcp -j DNAT --to-destination 9.9.9.9", "filter -A OUTPUT -p tcp"),
        "app tcp 127.0.0.1:4000 > 127.0.0.2:80", "nat/OUTPUT 1 filter/OUTPUT 1 out eth0", {"conf.all.route_localnet": 1},
    ),
    Fact(
        "24 REDIRECT at OUTPUT leads to 127.0.0.1 and keeps the source",
        ("nat -A OUTPUT -p tcp -j REDIRECT --to-ports 81", "filter -A INPUT -s 10.0.0.5 -d 127.0.0.1 -p tcp --dport 81"),
        TO_WORLD, "nat/OUTPUT 1 out lo filter/INPUT 1 local",
    ),
    *(
        Fact(
            f"25 REDIRECT at PREROUTING leads to the interface's first address, from {dst} too",
            ("nat -A PREROUTING -p tcp -j REDIRECT --to-ports 81", "filter -A INPUT -d 10.0.0.5 -p tcp --dport 81"),
            f"eth0 tcp 8.8.8.8:4000 > {dst}:80", "nat/PREROUTING 1 filter/INPUT 1 local",
        )
        for dst in ("10.0.0.6", "10.0.1.5", "10.0.0.255", "9.9.9.9", "127.0.0.1", "224.0.0.1")
    ),
    Fact("25 without an address there it drops", ("nat -A PREROUTING -p tcp -j REDIRECT",), "eth2 tcp 8.8.8.8:4000 > 10.0.0.5:80", "nat/PREROUTING 1"),
    Fact("26 martians pass PREROUTING and no more", (MARKS,), "eth0 tcp 127.0.0.1:4000 > 10.0.0.5:80", "mangle/PREROUTING 1"),
    Fact("26 a source of this host's own is one", (MARKS,), "eth0 tcp 10.0.0.6:4000 > 10.0.0.5:80", "mangle/PREROUTING 1"),
    Fact("26 but not with accept_local", (MARKS,), "eth0 tcp 10.0.0.6:4000 > 10.0.0.5:80", "mangle/PREROUTING 1 local", {"conf.all.accept_local": 1}),
    Fact(
        "26 a destination in 127/8 that DNAT chose is one",
        ("nat -A PREROUTING -p tcp -j DNAT --to-destination 127.0.0.1",), TO_POD, "nat/PREROUTING 1",
    ),
    Fact(
        "26 but not with route_localnet there",
        ("nat -A PREROUTING -p tcp -j DNAT --to-destination 127.0.0.1",), TO_POD, "nat/PREROUTING 1 local", {"conf.eth0.route_localnet": 1},
    ),
    Fact("27 rp_filter 1 drops what is routed through another interface", (MARKS,), "eth1 tcp 8.8.8.8:4000 > 10.0.0.5:80", "mangle/PREROUTING 1", {"conf.all.rp_filter": 1}),
    Fact("28 without forwarding a packet to elsewhere vanishes", (MARKS,), THROUGH, "mangle/PREROUTING 1"),
    Fact("28 and with a TTL of 1", (MARKS, "mangle -A FORWARD -m ttl --ttl-eq 9"), f"{THROUGH} ttl 1", "mangle/PREROUTING 1", FORWARDING),
    Fact(
        "28 a TTL of 2 arrives as 1",
        ("mangle -A FORWARD -m ttl --ttl-eq 1",), f"{THROUGH} ttl 2", "mangle/FORWARD 1 out eth1", FORWARDING,
    ),
    Fact(
        "29 DNAT at OUTPUT to an address of this host goes over lo",
        ("nat -A OUTPUT -p tcp -j DNAT --to-destination 10.0.1.5", "filter -A INPUT -i lo"), TO_WORLD, "nat/OUTPUT 1 out lo filter/INPUT 1 local",
    ),
    Fact(
        "30 an interface that is not there is the empty name",
        ("filter -A OUTPUT -j C", "filter -A C -i eth0", "filter -A C ! -i eth0", "filter -A C -i +"), TO_WORLD,
        "filter/OUTPUT 1 filter/C 2 filter/C 3 out eth0",
    ),
    Fact(
        "30 POSTROUTING knows where a forwarded packet came in, and of one that was sent nothing",
        ("mangle -A POSTROUTING -j C", "mangle -A C -i eth0"), THROUGH, "mangle/POSTROUTING 1 mangle/C 1 out eth1", FORWARDING,
    ),
    Fact("30 of what was sent it knows nothing", ("mangle -A POSTROUTING -j C", "mangle -A C -i eth0"), TO_WORLD, "mangle/POSTROUTING 1 out eth0"),
    Fact(
        "31 a name with + is a prefix, and without it the whole name",
        ("filter -A INPUT -i eth+", "filter -A INPUT -i eth0+", "filter -A INPUT -i eth", "filter -A INPUT -i eth1+"), TO_POD,
        "filter/INPUT 1 filter/INPUT 2 local",
    ),
    Fact("32 a raw socket sends from 127/8 to anywhere", (MARKS, "filter -A OUTPUT -s 127.0.0.1 -o eth0"), "raw tcp 127.0.0.1:4000 > 9.9.9.9:80", "filter/OUTPUT 1 out eth0"),
    # -- owner
    Fact(
        "40 without a socket an owner matches iff each criterion is negated",
        tuple(f"mangle -A POSTROUTING -m owner {m}" for m in (
            "! --uid-owner 1", "--uid-owner 1", "! --uid-owner 1 --gid-owner 1", "! --uid-owner 1 ! --gid-owner 1", "! --socket-exists")),
        THROUGH, "mangle/POSTROUTING 1 mangle/POSTROUTING 4 mangle/POSTROUTING 5 out eth1", FORWARDING,
    ),
    Fact(
        "41 uid and gid are both wanted, and ranges include their ends",
        tuple(f"filter -A OUTPUT -m owner {m}" for m in (
            "--uid-owner 5 --gid-owner 6", "--uid-owner 5 --gid-owner 7", "--uid-owner 1-5", "--uid-owner 6-9", "! --uid-owner 5 --gid-owner 6")),
        f"{TO_WORLD} uid 5 gid 6", "filter/OUTPUT 1 filter/OUTPUT 3 out eth0",
    ),
    Fact(
        "41 the ids are unsigned",
        ("filter -A OUTPUT -m owner --uid-owner 2147483648-4294967294", "filter -A OUTPUT -m owner --uid-owner 0-2147483647"),
        f"{TO_WORLD} uid 4294967294", "filter/OUTPUT 1 out eth0",
    ),
    # -- matches
    Fact(
        "54 multiport --ports is either port, and its negation neither",
        tuple(f"filter -A INPUT -p tcp -m multiport {m}" for m in ("--ports 4000", "--ports 80", "! --ports 80", "! --ports 5:70", "--dports 1:90,100")),
        TO_POD, "filter/INPUT 1 filter/INPUT 2 filter/INPUT 4 filter/INPUT 5 local",
    ),
    Fact(
        "55 an ICMP type without a code is any of its codes",
        tuple(f"filter -A INPUT -p icmp {m}" for m in ("--icmp-type 8", "--icmp-type 8/1", "--icmp-type any", "! --icmp-type 8", "! --icmp-type 0")),
        "eth0 icmp 8.8.8.8 > 10.0.0.5 type 8", "filter/INPUT 1 filter/INPUT 3 filter/INPUT 5 local",
    ),
    Fact(
        "60 negation is plain, also of a protocol",
        ("filter -A INPUT ! -p udp", "filter -A INPUT ! -s 8.8.8.8", "filter -A INPUT ! -d 10.0.0.6", "filter -A INPUT -p tcp ! --sport 4000"),
        TO_POD, "filter/INPUT 1 filter/INPUT 3 local",
    ),
    Fact(
        "61 host bits of a network do not count, and a mask need not be a prefix",
        ("filter -A INPUT -s 8.8.8.9/24", "filter -A INPUT -s 8.1.2.8/255.0.0.255"), TO_POD, "filter/INPUT 1 filter/INPUT 2 local",
    ),
    Fact("62 no packet has come in by none of all interfaces", ("filter -A INPUT ! -i +", "filter -A INPUT -i +"), TO_POD, "filter/INPUT 2 local"),
    Fact(
        "62 nor from none of all addresses",
        ("filter -A INPUT ! -s 0.0.0.0/0", "filter -A INPUT ! -d 0.0.0.0/0", "filter -A INPUT -s 0.0.0.0/0"), TO_POD, "filter/INPUT 3 local",
        only="legacy",
    ),
    Fact(
        "63 addrtype asks the local table, and of one interface where it is told to",
        tuple(f"filter -A INPUT -m addrtype {m}" for m in (
            "--dst-type LOCAL", "--dst-type LOCAL --limit-iface-in", "--src-type UNICAST", "! --src-type LOCAL", "--dst-type BROADCAST")),
        "eth0 tcp 8.8.8.8:4000 > 10.0.1.5:80", "filter/INPUT 1 filter/INPUT 3 filter/INPUT 4 local",
    ),
    Fact(
        "64 the value of a mark is not masked",
        ("mangle -A OUTPUT -j MARK --set-mark 1", *(f"filter -A OUTPUT -m mark {m}" for m in (
            "--mark 0x1/0x1", "--mark 0x3/0x1", "! --mark 0x1/0x0", "--mark 0x0/0x0"))),
        TO_WORLD, "mangle/OUTPUT 1 filter/OUTPUT 1 filter/OUTPUT 3 filter/OUTPUT 4 out eth0",
    ),
    Fact(
        "65 set-xmark clears its mask and xors, and set-mark clears value and mask",
        ("mangle -A OUTPUT -j MARK --set-xmark 0xff/0x0f", "mangle -A OUTPUT -m mark --mark 0xff", "mangle -A OUTPUT -j MARK --set-xmark 0xff/0x0f",
         "mangle -A OUTPUT -m mark --mark 0x0f", "mangle -A OUTPUT -j MARK --set-mark 0x30/0x3", "mangle -A OUTPUT -m mark --mark 0x3c"),
        TO_WORLD,
        "mangle/OUTPUT 1 mangle/OUTPUT 2 mangle/OUTPUT 3 mangle/OUTPUT 4 mangle/OUTPUT 5 mangle/OUTPUT 6 out eth0",
    ),
    Fact(
        "66 a mark is saved and restored under both masks",
        ("mangle -A OUTPUT -j MARK --set-mark 0xff", "mangle -A OUTPUT -j CONNMARK --save-mark --nfmask 0xf0 --ctmask 0xff",
         "mangle -A OUTPUT -m connmark --mark 0xf0", "mangle -A OUTPUT -j CONNMARK --restore-mark --nfmask 0x0f --ctmask 0xff",
         "mangle -A OUTPUT -m mark --mark 0x0", "mangle -A OUTPUT -m mark --mark 0xf0"),
        TO_WORLD, "mangle/OUTPUT 1 mangle/OUTPUT 2 mangle/OUTPUT 3 mangle/OUTPUT 4 mangle/OUTPUT 5 out eth0",
    ),
    *(
        Fact(
            f"66 {name}",
            ("mangle -A OUTPUT -j MARK --set-mark 0x80000ff1", f"mangle -A OUTPUT -j CONNMARK {save}",
             f"mangle -A OUTPUT -m connmark --mark {saved:#x}", f"mangle -A OUTPUT -j CONNMARK {restore}",
             f"mangle -A OUTPUT -m mark --mark {restored:#x}"),
            TO_WORLD, "mangle/OUTPUT 1 mangle/OUTPUT 2 mangle/OUTPUT 3 mangle/OUTPUT 4 mangle/OUTPUT 5 out eth0",
        )
        for name, save, saved, restore, restored in (
            ("what is saved and restored is shifted to the left, and what is kept is not",
             "--save-mark --nfmask 0xf0000fff --ctmask 0xff --left-shift-mark 4", 0x0000FF10,
             "--restore-mark --nfmask 0xff --ctmask 0xff00 --left-shift-mark 1", 0x8001F100),
            ("or to the right", "--save-mark --right-shift-mark 4", 0x080000FF, "--restore-mark --ctmask 0xff00000f --right-shift-mark 31", 0),
            ("what is set is shifted as a whole", "--set-xmark 0x80000001/0x1 --left-shift-mark 1", 2, "--restore-mark --right-shift-mark 1", 1),
            ("set to the right", "--set-mark 0x80000001 --right-shift-mark 31", 1, "--restore-mark --left-shift-mark 31", 0x80000000),
        )
    ),
    *(
        Fact(
            f"67 {flags} of no connection is {state}",
            tuple(f"filter -A INPUT -m conntrack --ctstate {s}" for s in ("NEW", "INVALID")), f"{TO_POD} {flags}",
            f"filter/INPUT {1 if state == 'NEW' else 2} local",
        )
        for flags, state in (
            ("SYN", "NEW"), ("SYN+ECE", "NEW"), ("ACK", "NEW"), ("SYN+ACK", "INVALID"), ("RST", "INVALID"), ("FIN", "INVALID"),
            ("SYN+FIN", "INVALID"), ("none", "INVALID"), ("FIN+ACK", "INVALID"), ("RST+ACK", "INVALID"),
        )
    ),
    Fact(
        "67 a stray ACK is INVALID where conntrack is strict",
        tuple(f"filter -A INPUT -m conntrack --ctstate {s}" for s in ("NEW", "INVALID")), f"{TO_POD} ACK", "filter/INPUT 2 local",
        strict=True,
    ),
    *(
        Fact(
            f"67 ICMP type {kind} of no connection is {state}",
            tuple(f"filter -A INPUT -m conntrack --ctstate {s}" for s in ("NEW", "INVALID")), f"eth0 icmp 8.8.8.8 > 10.0.0.5 type {kind}",
            f"filter/INPUT {1 if state == 'NEW' else 2} local",
        )
        for kind, state in ((8, "NEW"), (13, "NEW"), (0, "INVALID"), (3, "INVALID"), (99, "INVALID"))
    ),
    Fact(
        "67 a protocol that conntrack does not know is NEW",
        ("filter -A INPUT -m conntrack --ctstate NEW",), "eth0 gre 8.8.8.8 > 10.0.0.5", "filter/INPUT 1 local",
    ),
    Fact(
        "69 DNAT is set behind nat, where the address or the port really changes",
        ("nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 80", "nat -A PREROUTING -p tcp -j REDIRECT --to-ports 81",
         "filter -A INPUT -m conntrack --ctstate DNAT", "mangle -A PREROUTING -m conntrack --ctstate DNAT"),
        TO_POD, "nat/PREROUTING 1 local",
    ),
    Fact(
        "69 a new port alone sets it",
        ("nat -A PREROUTING -p tcp -j REDIRECT --to-ports 81", "filter -A INPUT -m conntrack --ctstate DNAT",
         "filter -A INPUT -m conntrack --ctorigdstport 80", "filter -A INPUT -m conntrack --ctreplsrcport 81"),
        TO_POD, "nat/PREROUTING 1 filter/INPUT 1 filter/INPUT 2 filter/INPUT 3 local",
    ),
    Fact(
        "69 SNAT is set on lo's side and not before",
        ("nat -A POSTROUTING -j SNAT --to-source 10.0.0.6", "mangle -A POSTROUTING -m conntrack --ctstate SNAT", "mangle -A INPUT -m conntrack --ctstate SNAT"),
        TO_SELF, "nat/POSTROUTING 1 out lo mangle/INPUT 1 local",
    ),
    *(
        Fact(
            f"50 a whole packet is no fragment, {how}",
            (*switch, "raw -A PREROUTING -f", "raw -A PREROUTING ! -f", "filter -A INPUT -f -j DROP", "filter -A INPUT ! -f -p tcp"), TO_POD,
            "raw/PREROUTING 2 filter/INPUT 2 local",
        )
        for how, switch in (("without conntrack", ()), ("and with it", ("mangle -A OUTPUT -m conntrack --ctstate NEW",)))
    ),
    *(
        Fact(
            f"41 supplementary groups: {how}",
            tuple(f"filter -A OUTPUT -m owner {asked} --suppl-groups" for asked in (
                "--gid-owner 5", "--gid-owner 50", "! --gid-owner 50", "--gid-owner 55-70", "! --gid-owner 51-59", "--uid-owner 9 --gid-owner 60",
                "--socket-exists --gid-owner 0-49",
            )),
            f"{who} tcp 10.0.0.5:4000 > 9.9.9.9:80 uid 8 gid {gid}", f"{path} out eth0",
        )
        for how, who, gid, path in (
            ("one of them is enough", "grouped", 5, "filter/OUTPUT 1 filter/OUTPUT 2 filter/OUTPUT 4 filter/OUTPUT 5 filter/OUTPUT 7"),
            ("the gid is one", "grouped", 50, "filter/OUTPUT 2 filter/OUTPUT 4 filter/OUTPUT 5"),
            ("a process may have none", "app", 5, "filter/OUTPUT 1 filter/OUTPUT 3 filter/OUTPUT 5 filter/OUTPUT 7"),
        )
    ),
    Fact(
        "40 with --suppl-groups no packet without a socket matches",
        ("mangle -A POSTROUTING -m owner ! --gid-owner 5", "mangle -A POSTROUTING -m owner ! --gid-owner 5 --suppl-groups",
         "mangle -A POSTROUTING -m owner ! --uid-owner 5 ! --gid-owner 5 --suppl-groups"),
        THROUGH, "mangle/POSTROUTING 1 out eth1", FORWARDING,
    ),
    # -- targets and control flow
    Fact("80 RETURN in a built-in chain is its policy", ("filter -P INPUT DROP", "filter -A INPUT -j RETURN", "filter -A INPUT -j ACCEPT"), TO_POD, "filter/INPUT 1"),
    Fact(
        "80 the end of a called chain goes on behind the call",
        ("filter -A INPUT -j C", "filter -A INPUT -p tcp", "filter -A C -p udp"), TO_POD, "filter/INPUT 1 filter/INPUT 2 local",
    ),
    Fact(
        "80 a goto leaves nothing to come back to: from a built-in chain its policy",
        ("filter -P INPUT DROP", "filter -A INPUT -g C", "filter -A INPUT -j ACCEPT", "filter -A C -p tcp"), TO_POD, "filter/INPUT 1 filter/C 1",
    ),
    Fact(
        "80 and from a called one, its caller",
        ("filter -A INPUT -j C", "filter -A INPUT -p tcp", "filter -A C -g D", "filter -A C -p tcp", "filter -A D -j RETURN"), TO_POD,
        "filter/INPUT 1 filter/C 1 filter/D 1 filter/INPUT 2 local",
    ),
    Fact(
        "81 ACCEPT ends its table alone",
        ("mangle -A INPUT -j ACCEPT", "mangle -A INPUT -p tcp", "filter -A INPUT -j DROP"), TO_POD, "mangle/INPUT 1 filter/INPUT 1",
    ),
    Fact(
        "82 a rule without a target, and MARK and LOG, go on",
        ("filter -A INPUT -p tcp", "filter -A INPUT -j MARK --set-mark 1", "filter -A INPUT -j LOG", "filter -A INPUT -j DROP"), TO_POD,
        "filter/INPUT 1 filter/INPUT 2 filter/INPUT 3 filter/INPUT 4",
    ),
    Fact(
        "82 the NAT targets end their chain",
        ("nat -A PREROUTING -p tcp -j REDIRECT --to-ports 81", "nat -A PREROUTING -p tcp -j REDIRECT --to-ports 82", "filter -A INPUT -p tcp --dport 81"),
        TO_POD, "nat/PREROUTING 1 filter/INPUT 1 local",
    ),
    Fact("85 REJECT drops", ("filter -A INPUT -p tcp -j REJECT --reject-with tcp-reset", "security -A INPUT -p tcp"), TO_POD, "filter/INPUT 1"),
    Fact(
        "86 DNAT and SNAT of one packet both apply",
        ("nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.1.9:81", "nat -A POSTROUTING -s 8.8.8.8 -d 10.0.1.9 -j SNAT --to-source 10.0.1.5"),
        TO_POD, "nat/PREROUTING 1 nat/POSTROUTING 1 out eth1", FORWARDING,
    ),
    Fact(
        "86 SNAT at INPUT is seen by the socket, and not yet by filter",
        ("nat -A INPUT -j SNAT --to-source 10.0.0.99", "filter -A INPUT -s 8.8.8.8"), TO_POD, "filter/INPUT 1 nat/INPUT 1 local",
    ),
    Fact(
        "87 a port in the range is kept",
        ("nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.6:70-90", "filter -A INPUT -d 10.0.0.6 -p tcp --dport 80"), TO_POD,
        "nat/PREROUTING 1 filter/INPUT 1 local",
    ),
    Fact(
        "87 and with a base it is shifted",
        ("nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.6:1000-1100/70", "filter -A INPUT -p tcp --dport 1010"), TO_POD,
        "nat/PREROUTING 1 filter/INPUT 1 local",
    ),
    Fact(
        "88 SNAT keeps a free source port",
        ("nat -A POSTROUTING -p tcp -j SNAT --to-source 10.0.0.6", "mangle -A INPUT -s 10.0.0.6 -p tcp --sport 4000"), TO_SELF,
        "nat/POSTROUTING 1 out lo mangle/INPUT 1 local",
    ),
    Fact(
        "88 with a base SNAT takes a port of its range, also where its own is one",
        ("nat -A POSTROUTING -p tcp -j SNAT --to-source 10.0.0.6:3000-4000/100", "mangle -A INPUT -s 10.0.0.6 -p tcp --sport 3997"), TO_SELF,
        "nat/POSTROUTING 1 out lo mangle/INPUT 1 local",
    ),
    Fact(
        "88 and keeps a source that is in the range as a whole",
        ("nat -A POSTROUTING -p tcp -j SNAT --to-source 127.0.0.1:3000-4000/100", "mangle -A INPUT -s 127.0.0.1 -p tcp --sport 4000"), TO_SELF,
        "nat/POSTROUTING 1 out lo mangle/INPUT 1 local",
    ),
    Fact(
        "90 MASQUERADE on lo takes the address of another interface",
        ("nat -A POSTROUTING -j MASQUERADE", "mangle -A INPUT -s 10.0.0.5"), TO_SELF, "nat/POSTROUTING 1 out lo mangle/INPUT 1 local",
    ),
    Fact(
        "91 NETMAP keeps the host bits of the destination",
        ("nat -A PREROUTING -j NETMAP --to 10.0.1.0/24", "mangle -A FORWARD -d 10.0.1.77"), "eth0 tcp 8.8.8.8:4000 > 9.9.9.77:80",
        "nat/PREROUTING 1 mangle/FORWARD 1 out eth1", FORWARDING,
    ),
    Fact(
        "91 and at POSTROUTING of the source",
        ("nat -A POSTROUTING -j NETMAP --to 10.9.0.0/16", "mangle -A INPUT -s 10.9.0.1"), TO_SELF, "nat/POSTROUTING 1 out lo mangle/INPUT 1 local",
    ),
    Fact(
        "93 CT with a zone makes a connection, and nat works",
        ("raw -A PREROUTING -j CT --zone 7", "nat -A PREROUTING -p tcp -j REDIRECT --to-ports 81"), TO_POD, "raw/PREROUTING 1 nat/PREROUTING 1 local",
    ),
    # -- what arrives
    *(
        Fact(f"107 a source {src} passes", (MARKS,), f"eth0 tcp {src}:4000 > 10.0.0.5:80", "mangle/PREROUTING 1 local", {"conf.all.rp_filter": 1})
        for src in ("10.0.0.0", "0.0.0.1", "240.0.0.1", "169.254.1.1")
    ),
    *(
        Fact(f"107 a source {src} is a martian", (MARKS,), f"eth0 tcp {src}:4000 > 10.0.0.5:80", "mangle/PREROUTING 1", {"conf.all.rp_filter": 1})
        for src in ("10.0.0.255", "127.0.0.2", "10.0.0.5", "224.0.0.1", "255.255.255.255")
    ),
    Fact("108 with route_localnet 127.0.0.2 passes", (MARKS,), "eth0 tcp 127.0.0.2:4000 > 10.0.0.5:80", "mangle/PREROUTING 1 local", {"conf.all.route_localnet": 1}),
    Fact("108 and 127.0.0.1, which is assigned, does not", (MARKS,), "eth0 tcp 127.0.0.1:4000 > 10.0.0.5:80", "mangle/PREROUTING 1", {"conf.all.route_localnet": 1}),
    *(
        Fact(f"109 a source {src} is forwarded", (MARKS,), f"eth0 tcp {src}:4000 > 10.0.1.7:80", "mangle/PREROUTING 1 out eth1", FORWARDING)
        for src in ("10.0.0.255", "240.0.0.1")
    ),
    *(
        Fact(f"109 a source {src} is not", (MARKS,), f"eth0 tcp {src}:4000 > 10.0.1.7:80", "mangle/PREROUTING 1", FORWARDING)
        for src in ("0.0.0.0", "224.0.0.1", "127.0.0.5")
    ),
    *(
        Fact(
            f"110 REDIRECT makes UDP to {dst} local, also with a TTL of 1",
            ("nat -A PREROUTING -p udp -j REDIRECT --to-ports 81", "mangle -A INPUT -m ttl --ttl-eq 1"), f"eth0 udp 8.8.8.8:4000 > {dst}:80 ttl 1",
            "nat/PREROUTING 1 mangle/INPUT 1 local",
        )
        for dst in ("224.0.0.251", "255.255.255.255", "127.0.0.1", "0.0.0.0", "240.0.0.1")
    ),
    Fact(
        "111 what is INVALID leaves without SNAT",
        ("nat -A POSTROUTING -j MASQUERADE", "mangle -A POSTROUTING -p tcp"), f"{TO_WORLD} RST", "mangle/POSTROUTING 1 out eth0",
    ),
)  # fmt: skip
