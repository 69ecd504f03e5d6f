"""Listings: what each match and target prints, in both families, with several tables and as old programs print them."""

from __future__ import annotations

import pytest

from verifier import rules as r
from verifier import spell
from verifier.reading.errors import RuleError
from verifier.reading.rules import read_rules
from verifier.values import Family, Net

V4, V6 = Family.IPV4, Family.IPV6
COLUMNS = " pkts bytes target     prot opt in     out     source               destination         \n"


def chain(name: str, *rows: str, policy: str = "ACCEPT") -> str:
    head = (
        f"Chain {name} (policy {policy} 0 packets, 0 bytes)\n" if policy else f"Chain {name} (1 references)\n"
    )
    return head + COLUMNS + "".join(f"{row}\n" for row in rows)


def table(*names: str, **rows: list[str]) -> str:
    return "\n".join(chain(name, *rows.get(name, ())) for name in names)


FILTER = ("INPUT", "FORWARD", "OUTPUT")
RAW = ("PREROUTING", "OUTPUT")
NAT = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
MANGLE = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def listed(prose: str, protocol: str = "0", target: str = "", family: Family = V4) -> str:
    """How the rule of a row that ends in the prose is spelled."""
    every = "0.0.0.0/0" if family is V4 else "::/0"
    row = f"    0     0 {target:<10} {protocol:<4} --  *      *       {every:<20} {every:<20} {prose}"
    name = "nat" if target in ("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP") else "mangle"
    text = chain("OUTPUT", row)
    (rule,) = read_rules(text, "t", name, family).families[family].tables[name].chains["OUTPUT"].rules
    return spell.rule("OUTPUT", rule).removeprefix("-A OUTPUT ")


def saved(words: str, name: str = "mangle", family: Family = V4) -> str:
    text = f"*{name}\n-A OUTPUT {words}\nCOMMIT\n"
    (rule,) = read_rules(text, "t", family=family).families[family].tables[name].chains["OUTPUT"].rules
    return spell.rule("OUTPUT", rule).removeprefix("-A OUTPUT ")


# -- what is printed, with the options that print it (asked of iptables 1.8.9) -------------------------------


@pytest.mark.parametrize(
    ("prose", "protocol", "words"),
    [
        ("sctp dpts:1:2", "132", "-p sctp -m sctp --dport 1:2"),
        ("sctp any 0x0000,0x0001", "132", "-p sctp -m sctp --chunk-types any DATA,INIT"),
        ("sctp ! all DATA:Be,ABORT:T", "sctp", "-p sctp -m sctp ! --chunk-types all DATA:Be,ABORT:T"),
        ("dccp 2,5", "33", "-p dccp -m dccp --dccp-types DATA,CLOSEREQ"),
        ("dccp ! RESET option=4", "33", "-p dccp -m dccp ! --dccp-types RESET --dccp-option 4"),
        ("udp spts:!1:2 dpt:3", "17", "-p udp -m udp ! --sport 1:2 --dport 3"),
        ("tcp spt:4 option=!5 flags:!0x3F/0x12", "6", "-p tcp -m tcp --sport 4 ! --tcp-option 5 ! --tcp-flags ALL SYN,ACK"),
        ("tcp dpt:22flags: 0x17/0x02", "tcp", "-p tcp -m tcp --dport 22 --tcp-flags SYN,RST,ACK,FIN SYN"),
        ("tcpflags: 0x17/0x02 multiport dports 1,2", "tcp", "-p tcp -m tcp --tcp-flags SYN,RST,ACK,FIN SYN -m multiport --dports 1,2"),
        ("icmptype 3 code 4", "1", "-p icmp -m icmp --icmp-type 3/4"),
        ("icmp !echo-request", "icmp", "-p icmp -m icmp ! --icmp-type 8"),
        ("ctstate NEW ctproto 6 ! ctorigdst 2.2.2.2 ctdir ORIGINAL", "0", "-m conntrack --ctstate NEW --ctproto 6 ! --ctorigdst 2.2.2.2 --ctdir ORIGINAL"),
        ("ADDRTYPE match src-type !LOCAL dst-type UNICAST", "0", "-m addrtype ! --src-type LOCAL --dst-type UNICAST"),
        ("owner UID match 1-5 ! owner GID match 3", "0", "-m owner --uid-owner 1-5 ! --gid-owner 3"),
        ("! owner UID match 7 ! owner GID match 50-60 incl. suppl. groups", "0",
         "-m owner ! --uid-owner 7 ! --gid-owner 50-60 --suppl-groups"),
        ("mark match ! 0x1/0x3", "0", "-m mark ! --mark 1/3"),
        ("connmark match  0x1", "0", "-m connmark --mark 0x1"),
        ("source IP range 1.1.1.1-1.1.1.5 destination IP range ! 2.2.2.2-2.2.2.9", "0",
         "-m iprange --src-range 1.1.1.1-1.1.1.5 ! --dst-range 2.2.2.2-2.2.2.9"),
        ("MAC ! 00:11:22:33:44:55", "0", "-m mac ! --mac-source 00:11:22:33:44:55"),
        ("length !5:9", "0", "-m length ! --length 5:9"),
        ("TTL match TTL != 5", "0", "-m ttl ! --ttl-eq 5"),
        ("TTL match TTL < 5", "0", "-m ttl --ttl-lt 5"),
        ("tos match!0x10/0x3f", "0", "-m tos ! --tos 0x10/0x3f"),
        ("DSCP match !0x2e", "0", "-m dscp ! --dscp 0x2e"),
        ("PKTTYPE != multicast", "0", "-m pkttype ! --pkt-type multicast"),
        ("match-set a dst return-nomatch ! update-counters ! update-subcounters ! packets-eq 5 bytes-gt 7", "0",
         "-m set --match-set a dst --return-nomatch ! --update-counters ! --update-subcounters ! --packets-eq 5 --bytes-gt 7"),
        ("! match-set a src,dst packets-lt 0 TTL match TTL < 5", "0", "-m set ! --match-set a src,dst --packets-lt 0 -m ttl --ttl-lt 5"),
        ("esp spis:1:5", "50", "-p esp -m esp --espspi 1:5"),
        ("ah spi:!7", "51", "-p ah -m ah ! --ahspi 7"),
        ("PHYSDEV match --physdev-in eth0 ! --physdev-is-bridged", "0", "-m physdev --physdev-in eth0 ! --physdev-is-bridged"),
        ("statistic mode nth ! every 3 packet 1", "0", "-m statistic --mode nth ! --every 3 --packet 1"),
        ("limit: avg 5/min burst 7", "0", "-m limit --limit 5/min --limit-burst 7"),
        ("recent: UPDATE seconds: 5 hit_count: 3 TTL-Match name: x side: dest mask: 255.255.255.0", "0",
         "-m recent --update --seconds 5 --hitcount 3 --rttl --name x --mask 255.255.255.0 --rdest"),
        ("#conn dst/24 > 5", "0", "-m connlimit --connlimit-above 5 --connlimit-mask 24 --connlimit-daddr"),
        ("tcp dpt:80 /* why: \"so\" */ ctstate NEW", "6", '-p tcp -m tcp --dport 80 -m comment --comment "why: \\"so\\"" -m conntrack --ctstate NEW'),
    ],
)  # fmt: skip
def test_what_a_match_prints_is_read_as_its_options(prose: str, protocol: str, words: str) -> None:
    assert listed(prose, protocol) == saved(words)


@pytest.mark.parametrize(
    ("target", "prose", "words"),
    [
        ("MARK", "MARK xset 0x5/0x7", "-j MARK --set-xmark 5/7"),
        ("MARK", "MARK and 0x5", "-j MARK --and-mark 5"),
        ("CONNMARK", "CONNMARK set 0x5", "-j CONNMARK --set-mark 0x5"),
        ("CONNMARK", "CONNMARK save", "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff"),
        ("CONNMARK", "CONNMARK save nfmask 0xff ctmask ~0xf", "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xf"),
        ("CONNMARK", "CONNMARK restore ctmask 0xf nfmask ~0xff", "-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf"),
        ("CONNMARK", "CONNMARK set 0x5 left-shift-mark 2", "-j CONNMARK --set-mark 0x5 --left-shift-mark 2"),
        ("CONNMARK", "CONNMARK xset 0x5/0xf right-shift-mark 2", "-j CONNMARK --set-xmark 0x5/0xf --right-shift-mark 2"),
        ("CONNMARK", "CONNMARK save right-shift-mark 31", "-j CONNMARK --save-mark --right-shift-mark 31"),
        ("CONNMARK", "CONNMARK restore ctmask 0xf0 nfmask ~0xf right-shift-mark 4",
         "-j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xf0 --right-shift-mark 4"),
        ("TTL", "TTL decrement by 5", "-j TTL --ttl-dec 5"),
        ("TOS", "TOS set 0x10/0xff", "-j TOS --set-tos 0x10/0xff"),
        ("DSCP", "DSCP set 0x05", "-j DSCP --set-dscp 0x05"),
        ("CLASSIFY", "CLASSIFY set 1:5", "-j CLASSIFY --set-class 1:5"),
        ("DNAT", "to:1.2.3.4:80", "-j DNAT --to-destination 1.2.3.4:80"),
        ("NFQUEUE", "NFQUEUE num 5 bypass", "-j NFQUEUE --queue-num 5 --queue-bypass"),
        ("LOG", 'LOG flags 10 level 7 prefix "x y "', '-j LOG --log-prefix "x y " --log-level 7 --log-tcp-options --log-uid'),
        ("SET", "add-set foo src,dst", "-j SET --add-set foo src,dst"),
    ],
)  # fmt: skip
def test_what_a_target_prints_is_read_as_its_options(target: str, prose: str, words: str) -> None:
    nat = target == "DNAT"
    said = listed(("tcp dpt:1 " if nat else "") + prose, "6" if nat else "0", target)
    assert said == saved(("-p tcp -m tcp --dport 1 " if nat else "") + words, "nat" if nat else "mangle")


def test_a_mark_that_is_saved_with_its_mask_is_saved_so() -> None:
    assert listed("CONNMARK save mask 0xff", "0", "CONNMARK") == saved(
        "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff"
    )


# -- families ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        "    0     0 ACCEPT     6    --  eth0   *       fe80::/10            ::/0                ",
        "    0     0 ACCEPT     tcp      eth0   *       fe80::/10            ::/0                ",
        "    0     0 ACCEPT     tcp  --  eth0   any     fe80::/10            anywhere            ",
    ],
)
def test_a_listing_of_ip6tables_is_known_by_its_addresses(row: str) -> None:
    read = read_rules(table(*FILTER, INPUT=[row]), "t")
    assert list(read.families) == [V6]
    (rule,) = read.rules.tables["filter"].chains["INPUT"].rules
    assert rule.literals[0] == r.Literal(r.Source(Net.read("fe80::/10", V6)))
    assert spell.rule("INPUT", rule) == "-A INPUT -s fe80::/10 -i eth0 -p tcp -j ACCEPT"


def test_a_row_of_an_old_ip6tables_may_have_no_target() -> None:
    row = "    0     0            all      eth0   *       ::/0                 fe80::1              tcp spt:1"
    (rule,) = (
        read_rules(table(*FILTER, INPUT=[row.replace("all", "tcp")]), "t").rules.tables["filter"].chains["INPUT"].rules
    )  # fmt: skip
    assert spell.rule("INPUT", rule) == "-A INPUT -d fe80::1/128 -i eth0 -p tcp -m tcp --sport 1"


def test_names_of_ipv6_hosts() -> None:
    row = "    0     0 DROP       all  --  any    any     localhost            ip6-allnodes        "
    text = f"# ip6tables -L -v\n{table(*FILTER, INPUT=[row])}"
    (rule,) = read_rules(text, "t").rules.tables["filter"].chains["INPUT"].rules
    assert spell.rule("INPUT", rule) == "-A INPUT -s ::1/128 -d ff02::1/128 -j DROP"


def test_both_programs_may_list_in_one_text() -> None:
    text = f"# iptables -t nat -L -v -n\n{table(*NAT)}\n# ip6tables -t nat -L -v -n\n{table(*NAT)}"
    read = read_rules(text, "t")
    assert list(read.families) == [V4, V6]
    assert all(list(rules.tables) == ["nat"] for rules in read.families.values())


# -- several tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["# iptables -t {} -L -v", "$ sudo iptables -t {} -vnL", "iptables -t {} -L -v", "Table: {}"]
)
def test_a_line_before_a_table_names_it(line: str) -> None:
    text = "\n".join(
        f"{line.format(name)}\n{table(*chains)}" for name, chains in (("nat", NAT), ("raw", RAW))
    )
    assert list(read_rules(text, "t").rules.tables) == ["nat", "raw"]


def test_tables_without_names_are_told_apart_by_their_chains() -> None:
    own = chain("MINE", policy="")
    text = "\n".join([table(*RAW), own, table(*FILTER), table(*NAT), own])
    read = read_rules(text, "t")
    assert list(read.rules.tables) == ["raw", "filter", "nat"]
    assert [("MINE" in t.chains) for t in read.rules.tables.values()] == [True, False, True]
    assert len(read.notes) == 3


def test_chains_that_may_be_of_several_tables_are_not_guessed() -> None:
    with pytest.raises(RuleError) as caught:
        read_rules(table("FORWARD", "OUTPUT"), "t")
    assert caught.value.code == "R017"
    assert list(read_rules(table("FORWARD", "OUTPUT"), "t", "filter").rules.tables) == ["filter"]


def test_a_command_that_printed_nothing_lists_nothing() -> None:
    text = table(*FILTER)
    assert (
        read_rules(f"{text}# iptables -t nat -L -v\n", "x", "filter").rules
        == read_rules(text, "x", "filter").rules
    )


def test_words_that_are_not_understood_are_spelled_as_no_options() -> None:
    """`-d0` after the columns is no condition of ours; spelled bare, it would be read back as one."""
    row = "    0     0 ACCEPT     0    --  *      *       0.0.0.0/0            0.0.0.0/0            -d0 whatever"
    said = spell.rule_set(read_rules(chain("OUTPUT", row), "x", "mangle").rules)
    with pytest.raises(RuleError):
        read_rules(said, "again")
