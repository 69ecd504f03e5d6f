"""What each extension of iptables 1.8.9 makes of its options: what its save text says, and what it refuses."""

from __future__ import annotations

import pytest

from verifier import rules as r
from verifier import spell
from verifier.reading.errors import RuleError
from verifier.reading.rules import read_rules
from verifier.values import Family


def read(line: str) -> tuple[r.Rule, Family]:
    """The rule of a line like `6 mangle -j HL --hl-set 5`, in a chain of the user's own; table filter where none is named."""
    number, words = line.split(" ", 1)
    first, _, rest = words.partition(" ")
    table, words = (first, rest) if first in ("nat", "mangle", "raw", "security") else ("filter", words)
    family = Family(int(number))
    text = f"*{table}\n:C - [0:0]\n-A C {words}\nCOMMIT\n"
    (rule,) = read_rules(text, "t", family=family).rules.tables[table].chains["C"].rules
    return rule, family


SPELLED = """
4 -p tcp -m tcp --tcp-flags SYN SYN --tcp-option 5 --dport 4 --sport 3 => -p tcp -m tcp --sport 3 --dport 4 --tcp-option 5 --tcp-flags SYN SYN
4 -p sctp --chunk-types any sack,data --dport 5 => -p sctp -m sctp --dport 5 --chunk-types any DATA,SACK
4 -p sctp -m sctp ! --chunk-types only ALL => -p sctp -m sctp ! --chunk-types only ALL
4 -p dccp -m dccp ! --dccp-types data,REQUEST --dccp-option 5 --sport 4 => -p dccp -m dccp --sport 4 ! --dccp-types REQUEST,DATA --dccp-option 5
4 -p icmp --icmp-type echo-req => -p icmp -m icmp --icmp-type 8
4 -p icmp --icmp-type 3/4:4 => -p icmp -m icmp --icmp-type 3/4
4 -p icmp --icmp-type 255/0:255 => -p icmp -m icmp --icmp-type any
6 -p icmpv6 --icmpv6-type neighbor-adv => -p ipv6-icmp -m icmp6 --icmpv6-type 136
6 -p 58 -m ipv6-icmp ! --icmpv6-type failed-policy => -p ipv6-icmp -m icmp6 ! --icmpv6-type 1/5
6 -p icmpv6 -m icmpv6 --icmpv6-type 255 => -p ipv6-icmp -m icmp6 --icmpv6-type 255
4 -p 51 -m ah --ahspi 0x10:20 => -p ah -m ah --ahspi 16:20
6 -m ah ! --ahspi 1: => -m ah ! --ahspi 1:4294967295
4 -p esp --espspi :32 => -p esp -m esp --espspi 0:32
6 -m ipv6header ! --header 60,hop,ah --soft => -m ipv6header ! --header hop-by-hop,ipv6-opts,ah --soft
4 -m iprange ! --dst-range 1.1.1.1 --src-range 1.2.3-1.2.4 => -m iprange --src-range 1.2.3.0-1.2.4.0 ! --dst-range 1.1.1.1-1.1.1.1
6 -m iprange --src-range ::1-::5 => -m iprange --src-range ::1-::5
4 -m mac ! --mac-source a:B:c:d:e:f => -m mac ! --mac-source 0a:0b:0c:0d:0e:0f
4 -m length --length 0x10: => -m length --length 16:65535
4 -m ttl --ttl 0x10 => -m ttl --ttl-eq 16
6 -m hl --hl-gt 5 => -m hl --hl-gt 5
4 -m tos ! --tos 16 => -m tos ! --tos 0x10/0xff
4 -m tos --tos minimize-delay => -m tos --tos 0x10/0x3f
4 -m dscp --dscp-class af41 => -m dscp --dscp 0x22
4 -m pkttype ! --pkt-type HOST => -m pkttype ! --pkt-type unicast
4 -m conntrack --ctdir reply --ctstatus conf,NONE,ASSURED ! --ctproto icmp --ctstate est,SNAT,new => -m conntrack --ctstate NEW,ESTABLISHED,SNAT ! --ctproto 1 --ctstatus ASSURED,CONFIRMED --ctdir REPLY
4 -m conntrack --ctrepldstport http ! --ctorigsrc 1.2.3.4 --ctorigdst 10.1.2.3/8 --ctexpire 3:3 => -m conntrack ! --ctorigsrc 1.2.3.4 --ctorigdst 10.0.0.0/8 --ctrepldstport 80 --ctexpire 3
6 -m conntrack --ctreplsrc 2001:db8::1 => -m conntrack --ctreplsrc 2001:db8::1
4 -m conntrack ! --ctstate DNAT => -m conntrack ! --ctstate DNAT
4 -m state ! --state RELATED,EST => -m conntrack ! --ctstate RELATED,ESTABLISHED
4 -m connmark ! --mark 1/255 => -m connmark ! --mark 0x1/0xff
4 -m owner --gid-owner 5 ! --uid-owner 3:7 --socket-exists => -m owner --socket-exists ! --uid-owner 3-7 --gid-owner 5
4 -m owner --uid-owner root => -m owner --uid-owner 0
4 -m addrtype --limit-iface-in --dst-type LOC,unicast ! --src-type BROADCAST => -m addrtype ! --src-type BROADCAST --dst-type UNICAST,LOCAL --limit-iface-in
4 -m set ! --set S src,dst --return-nomatch ! --update-counters --update-subcounters => -m set ! --match-set S src,dst --return-nomatch ! --update-counters
4 mangle -m rpfilter --invert --loose => -m rpfilter --loose --invert
4 mangle -m socket --nowildcard --transparent => -m socket --transparent --nowildcard
4 -m physdev --physdev-is-bridged --physdev-out b+ ! --physdev-is-in ! --physdev-in a => -m physdev ! --physdev-is-in ! --physdev-in a --physdev-out b+ --physdev-is-bridged
4 -m limit => -m limit --limit 3/hour
4 -m limit --limit 120/m --limit-burst 5 => -m limit --limit 2/sec
4 -m limit --limit 3000 => -m limit --limit 3333/sec
4 -m limit --limit 61/min --limit-burst 9 => -m limit --limit 61/min --limit-burst 9
4 -m hashlimit ! --hashlimit-upto 5/min --hashlimit-name z => -m hashlimit --hashlimit-above 5/min --hashlimit-burst 5 --hashlimit-name z
4 -m hashlimit --hashlimit 120/min --hashlimit-name y --hashlimit-mode dstport,srcip --hashlimit-srcmask 32 => -m hashlimit --hashlimit-upto 2/sec --hashlimit-burst 5 --hashlimit-mode srcip,dstport --hashlimit-name y --hashlimit-htable-expire 60000
4 -m hashlimit --hashlimit-upto 100b/s --hashlimit-name k => -m hashlimit --hashlimit-upto 96b/s --hashlimit-name k
4 -m hashlimit --hashlimit-upto 2048b/s --hashlimit-name k --hashlimit-burst 3000b => -m hashlimit --hashlimit-upto 2kb/s --hashlimit-burst 4kb --hashlimit-name k
4 -m recent --rdest --name A --set => -m recent --set --name A --mask 255.255.255.255 --rdest
6 -m recent ! --update --seconds 60 --reap --rttl => -m recent ! --update --seconds 60 --reap --rttl --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource
4 -m connlimit ! --connlimit-above 3 --connlimit-mask 255.255.0.0 => -m connlimit --connlimit-upto 3 --connlimit-mask 16 --connlimit-saddr
4 -m time --timestart 8:00 --weekdays Mo,2 => -m time --timestart 08:00:00 --timestop 23:59:59 --weekdays Mon,Tue --datestop 2038-01-19T03:14:07
4 -m time ! --monthdays 1,31 --datestart 2024-02-30 --localtz => -m time --monthdays 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30 --datestart 2024-03-01T00:00:00 --datestop 2038-01-19T03:14:07 --kerneltz
4 -m quota ! --quota 0x10 => -m quota ! --quota 16
4 -m statistic --probability .3 --mode random => -m statistic --mode random --probability 0.29999999981
4 -m statistic --mode nth ! --every 0x3 --packet 01 => -m statistic --mode nth ! --every 3 --packet 1
4 nat -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.5:5-7 --persistent --random-fully --random => -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.5:5-7 --random --random-fully --persistent
6 nat -p tcp -j SNAT --to-source [2001:db8::1-2001:db8::5]:80-90 => -p tcp -j SNAT --to-source [2001:db8::1-2001:db8::5]:80-90
6 nat -p tcp -j DNAT --to-destination []:80 => -p tcp -j DNAT --to-destination :80
6 nat -j DNAT --to-destination [2001:db8::1] => -j DNAT --to-destination 2001:db8::1
4 nat -p tcp -j DNAT --to-destination 1.1.1.1:10-20/ftp => -p tcp -j DNAT --to-destination 1.1.1.1:10-20/21
4 nat -p tcp -j MASQUERADE --to-ports 5-5 --random-fully => -p tcp -j MASQUERADE --to-ports 5 --random-fully
4 nat -j NETMAP --to 1.2.3.4/16 => -j NETMAP --to 1.2.0.0/16
6 nat -j NETMAP --to 2001:db8::1 => -j NETMAP --to 2001:db8::1/128
4 mangle -p tcp -j TPROXY --on-port 5 --tproxy-mark 7 => -p tcp -j TPROXY --on-port 5 --on-ip 0.0.0.0 --tproxy-mark 0x7/0xffffffff
6 mangle -p udp -j TPROXY --on-port 5 => -p udp -j TPROXY --on-port 5 --on-ip :: --tproxy-mark 0x0/0x0
4 mangle -j CONNMARK --set-mark 1/2 => -j CONNMARK --set-xmark 0x1/0x3
4 mangle -j CONNMARK --and-mark 1 --mask 3 => -j CONNMARK --set-xmark 0x0/0x3
4 mangle -j CONNMARK --restore-mark --mask 0xff => -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff
4 mangle -j CONNMARK --ctmask 1 --save-mark => -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0x1
4 raw -j NOTRACK => -j CT --notrack
4 raw -j CT --notrack --zone 5 => -j CT --notrack
4 raw -j CT --ctevents destroy,new --zone 5 --zone-orig mark => -j CT --ctevents new,destroy --zone-orig mark
4 raw -p tcp -j CT --helper ftp => -p tcp -j CT --helper ftp
4 mangle -j TOS --and-tos 0x12 => -j TOS --set-tos 0x00/0xed
4 mangle -j DSCP --set-dscp-class EF => -j DSCP --set-dscp 0x2e
4 mangle -j TTL --ttl-dec 1 => -j TTL --ttl-dec 1
6 mangle -j HL --hl-set 0 => -j HL --hl-set 0
4 mangle -p tcp -j TCPMSS --set-mss 5 --clamp-mss-to-pmtu => -p tcp -j TCPMSS --clamp-mss-to-pmtu
4 -j SET --timeout 5 --exist --add-set S src --del-set S dst => -j SET --add-set S src --exist --timeout 5 --del-set S dst
4 -j NFQUEUE --queue-cpu-fanout --queue-balance :4 --queue-bypass => -j NFQUEUE --queue-balance 0:4 --queue-bypass --queue-cpu-fanout
4 -j NFQUEUE => -j NFQUEUE --queue-num 0
4 -j LOG --log-uid --log-level debug --log-tcp-sequence --log-prefix a.b => -j LOG --log-prefix "a.b" --log-level 7 --log-tcp-sequence --log-uid
4 -j LOG --log-level warning --log-prefix 123456789012345678901234567890 => -j LOG --log-prefix 12345678901234567890123456789
4 -j NFLOG --nflog-threshold 0 --nflog-group 3 --nflog-prefix "it's" => -j NFLOG --nflog-prefix "it\\'s" --nflog-group 3
4 -j CLASSIFY --set-class 1:a => -j CLASSIFY --set-class 0001:000a
4 -j AUDIT --type ACCEPT => -j AUDIT --type accept
4 -j REJECT --reject-with net => -j REJECT --reject-with icmp-net-unreachable
6 -j REJECT => -j REJECT --reject-with icmp6-port-unreachable
6 -j REJECT --reject-with adm-prohibited => -j REJECT --reject-with icmp6-adm-prohibited
6 -s 2001:db8::5/64 -d ::ffff:1.2.3.4 -j ACCEPT => -s 2001:db8::/64 -d ::ffff:1.2.3.4/128 -j ACCEPT
6 -s ::/0 -p 0 -j ACCEPT => -j ACCEPT
6 -p mh -j ACCEPT => -p mobility-header -j ACCEPT
"""


@pytest.mark.parametrize("line", SPELLED.strip().splitlines())
def test_an_option_is_spelled_as_iptables_save_prints_it(line: str) -> None:
    given, spelled = line.split(" => ")
    rule, family = read(given)
    assert spell.rule("C", rule, family) == f"-A C {spelled}"
    assert not any(isinstance(lit.match, r.Opaque) for lit in rule.literals)
    assert not isinstance(rule.target, r.OpaqueTarget)


REFUSED = """
R004 4 -m hl --hl-eq 5
R004 6 -m ttl --ttl-eq 5
R004 6 mangle -j TTL --ttl-set 5
R004 6 -f
R004 6 -s 1.2.3.4
R009 6 -s fe80::1%lo
R009 6 -m addrtype --src-type BROADCAST
R009 6 -j REJECT --reject-with icmp-port-unreachable
R010 6 -m icmp6 --icmpv6-type 1
R010 4 -m ah --ahspi 1
R010 6 -m esp --espspi 1
R010 4 -m addrtype --limit-iface-in
R010 4 -m physdev
R010 4 -m recent --name X
R010 4 -m recent --rcheck --reap
R010 4 -m statistic --mode nth --every 3
R010 4 -m hashlimit --hashlimit-upto 1/sec
R010 4 -m owner --suppl-groups --gid-owner 5
R010 4 mangle ! -p tcp -j TPROXY --on-port 5
R010 4 mangle -p udp -j TCPMSS --set-mss 5
R010 4 nat -p udplite -j SNAT --to-source 1.2.3.4:7
R010 4 nat -j MASQUERADE --to-ports 5
R010 4 raw -j CT --helper ftp
R010 4 -j NFQUEUE --queue-num 5 --queue-cpu-fanout
R010 4 mangle -j TTL
R010 4 -j SET
R011 4 -m conntrack ! --ctdir REPLY
R011 4 -m ttl ! --ttl-lt 5
R011 4 -m ttl --ttl-lt 5 --ttl-gt 3
R011 4 mangle -m rpfilter ! --invert
R011 4 -m limit ! --limit 5/s
R011 4 -m statistic --mode nth --every 3 ! --packet 1
R011 4 -m addrtype --src-type LOCAL --limit-iface-in --limit-iface-out
R011 4 -m dscp --dscp 0x3f --dscp-class CS0
R011 4 -m recent --set --update
R011 4 -m recent --remove --seconds 5
R011 4 -m connlimit --connlimit-upto 3 --connlimit-above 3
R011 4 -m time --utc --kerneltz
R011 4 -m owner --gid-owner 5 ! --suppl-groups
R011 4 nat -j DNAT --to-destination 1.1.1.1 --to-destination 2.2.2.2
R011 4 mangle -j MARK --set-mark 1 --or-mark 3
R011 4 mangle -j CONNMARK --restore-mark --mask 1 --nfmask 0xff
R011 4 mangle -j TOS --set-tos 16 --and-tos 3
R009 4 -p icmp --icmp-type echo
R009 4 -p icmp --icmp-type 256
R009 4 -p tcp -m tcp --tcp-option 0
R009 4 -p sctp --chunk-types any 0
R009 4 -p sctp --chunk-types any INIT:B
R009 4 -m conntrack --ctstate NEW,
R009 4 -m conntrack --ctexpire 4294967296
R009 4 -m mac --mac-source 42:01:02:03:04
R009 4 -m length --length 0:65536
R009 4 -m tos --tos 256
R009 4 -m dscp --dscp 0x40
R009 4 -m pkttype --pkt-type loopback
R009 4 -m set --match-set S src,dst,src,dst,src,dst,src
R009 4 -m owner --uid-owner 5-3
R009 4 -m limit --limit 20000/s
R009 4 -m limit --limit 5/week
R009 4 -m hashlimit --hashlimit-upto 3/s --hashlimit-name k --hashlimit-srcmask 33
R009 4 -m hashlimit --hashlimit-upto 3kb/s --hashlimit-name k --hashlimit-burst 4
R009 4 -m time --timestart 25:00
R009 4 -m time --timestart 5:00 --timestop 6:00 --contiguous
R009 4 -m time --weekdays Mon,Foo
R009 4 -m statistic --mode random --probability 1.1
R009 4 -m statistic --mode nth --every 5 --packet 5
R009 4 -m quota --quota 18446744073709551616
R009 4 nat -p tcp -j DNAT --to-destination 1.1.1.1:90-80
R009 4 nat -p tcp -j REDIRECT --to-ports 10-ssh
R009 6 nat -p tcp -j DNAT --to-destination [::1%lo]:80
R009 4 raw -j CT --zone 65536
R009 4 mangle -j TTL --ttl-inc 0
R009 4 mangle -p tcp -j TCPMSS --set-mss 65516
R011 4 -m set --match-set S src --packets-lt 3 --packets-gt 1
R011 4 -m set --match-set S src ! --bytes-gt 1
R009 4 -m set --match-set S src --packets-eq 18446744073709551616
R009 4 mangle -j CONNMARK --save-mark --left-shift-mark 32
R009 4 -j LOG --log-level bad
R009 4 -j LOG --log-prefix ""
R009 4 -j NFLOG --nflog-group 65536
R009 4 -j CLASSIFY --set-class 10
R009 4 -j AUDIT --type wrong
R009 4 -j NFQUEUE --queue-balance 4:4
R016 4 nat -j DROP
R016 4 -j CT --notrack
R016 4 mangle -j SNAT --to-source 1.2.3.4
"""


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_what_iptables_refuses_is_refused(line: str) -> None:
    code, given = line.split(" ", 1)
    with pytest.raises(RuleError) as caught:
        read(given)
    assert caught.value.code == code, caught.value


OPAQUE = """
6 -m ah --ahspi 1 --ahres
4 -p sctp --chunk-types any I_DATA:B
4 mangle -j HMARK --hmark-tuple src --hmark-mod 2
4 mangle -j SET --map-set S src --map-mark
4 -j SET --add-set S src --del-set T dst
"""


@pytest.mark.parametrize("line", OPAQUE.strip().splitlines())
def test_what_our_words_cannot_say_is_kept_as_text(line: str) -> None:
    rule, family = read(line)
    opaque = [lit for lit in rule.literals if isinstance(lit.match, r.Opaque)]
    assert opaque or isinstance(rule.target, r.OpaqueTarget)
    table = line.split()[1] if line.split()[1] in ("nat", "mangle") else "filter"
    again, _ = read(
        f"{line[0]} {table if table != 'filter' else ''} {spell.rule('', rule, family)[4:]}".replace(
            "  ", " "
        )
    )
    assert again == rule
