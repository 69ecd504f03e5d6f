"""Host files: what is read, what is taken for granted, and what is said of a file that contradicts itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import hosts as h
from verifier.hosts import BoundTo, Dial
from verifier.reading.envoy import read_clusters_text
from verifier.reading.errors import HostError
from verifier.reading.hosts import read_bare_host, read_host, read_host_text
from verifier.reading.policy import read_routing_rule
from verifier.reading.routes import read_route
from verifier.reading.words import read_dial, read_ids, read_listener
from verifier.spell_hosts import host as spell_host
from verifier.spell_hosts import route as spell_route
from verifier.spell_hosts import routing_rule as spell_rule
from verifier.values import (
    TCP,
    UDP,
    AddressSet,
    Family,
    Ids,
    IdSet,
    MarkMask,
    Net,
    Span,
    Special,
    read_address,
)

HOSTS = Path(__file__).parent.parent / "proofs" / "istio-sidecar" / "hosts"

POD = """\
rules: [a.rules, b.rules]
backend: nft
interfaces:
  lo: {addresses: [127.0.0.1/8]}
  eth0: {addresses: [10.33.4.7/24]}
routes:
  - default via 10.33.4.1 dev eth0
  - 10.33.4.0/24 dev eth0 proto kernel scope link src 10.33.4.7
  - blackhole 10.99.0.0/16
ip-rules: []
sysctls: {net.ipv4.conf.all.rp_filter: 1, net.ipv4.conf.eth0.rp_filter: 2}
sets: []
processes:
  app:
    uid: not 1337
    gid: [0, 1000-1999]
    listens: ["*:8080", "udp/10.33.4.7:53", "[::]:9090", "127.0.0.5:81", "*:82%eth0"]
    mark: 0x539
    binds-device: eth0
    raw: true
  envoy:
    uid: 1337
    gid: 1337
    listens: ["*:15006", "*:15001"]
    proxy:
      inbound:
        accepts: 15006
        refuses: [15001, 15006]
        routes:
          - {port: 8080, connects-to: "127.0.0.1:8080"}
          - {ports: [80, 90-99], connects-to: "{address}:81", source: client}
          - {connects-to: original-destination, source: 127.0.0.6}
      outbound: {accepts: 15001, connects-to: [original-destination, "10.33.4.7:{port}"]}
outside:
  sources: unicast, not 10.33.4.7
"""


def a(text: str) -> int:
    return read_address(text)


def pod() -> h.Host:
    return read_host_text(POD, "hosts/pod.yaml").host


# -- what is read -------------------------------------------------------------------------------


def test_a_host_file_says_what_its_keys_say():
    host = pod()
    assert (host.name, host.backend) == ("pod", h.Backend.NFT)
    assert host.interfaces == (
        h.Interface("lo", (h.Address(a("127.0.0.1"), 8),)),
        h.Interface("eth0", (h.Address(a("10.33.4.7"), 24),)),
    )
    assert host.routes == (
        h.Route(Net(0, 0), "eth0", a("10.33.4.1")),
        h.Route(Net.read("10.33.4.0/24"), "eth0", source=a("10.33.4.7")),
        h.Route(Net.read("10.99.0.0/16"), None, kind=h.RouteKind.BLACKHOLE),
    )
    assert host.outside == AddressSet((Special.UNICAST,), (Net(a("10.33.4.7")),))


def test_a_process_is_read_with_its_sockets_and_what_they_may_do():
    app = pod().process("app")
    assert app == h.Process(
        "app",
        IdSet.read("not 1337"),
        IdSet.read("0, 1000-1999"),
        (
            h.Listener(8080),
            h.Listener(53, a("10.33.4.7"), UDP),
            h.Listener(9090),
            h.Listener(81, a("127.0.0.5")),
            h.Listener(82, device="eth0"),
        ),
        mark=0x539,
        device="eth0",
        raw=True,
    )


def test_a_proxy_is_read_in_its_long_and_in_its_short_form():
    inbound, outbound = pod().process("envoy").proxies
    assert inbound == h.Proxy(
        "inbound",
        15006,
        (
            h.ProxyRoute((h.Dial(a("127.0.0.1"), 8080),), h.KernelChooses(), (Span(8080, 8080),)),
            h.ProxyRoute((h.Dial(None, 81),), h.ClientsOwn(), (Span(80, 80), Span(90, 99))),
            h.ProxyRoute((h.Dial(),), h.BoundTo(a("127.0.0.6"))),
        ),
        (Span(15001, 15001), Span(15006, 15006)),
    )
    assert [r.place.line for r in inbound.routes] == [30, 31, 32]
    assert outbound == h.Proxy(
        "outbound", 15001, (h.ProxyRoute((h.Dial(), h.Dial(a("10.33.4.7"), None)), h.KernelChooses()),)
    )


def test_rules_files_are_relative_to_the_host_file_and_know_their_place():
    found = read_host_text(POD, "hosts/pod.yaml")
    assert found.rules_files == (Path("hosts/a.rules"), Path("hosts/b.rules"))
    assert [(p.line, p.column) for p in found.views[0].rules_places] == [(1, 9), (1, 18)]


# -- both families ----------------------------------------------------------------------------------

DUAL = """\
rules: a.rules
rules6: [a.rules6, b.rules6]
interfaces:
  lo: {addresses: [127.0.0.1/8, "::1/128", "::6/128"]}
  eth0: {addresses: [10.33.4.7/24, "2001:db8::7/64", "fe80::7/64"]}
routes: [default via 10.33.4.1 dev eth0]
routes6:
  - ::1 dev lo proto kernel metric 256 pref medium
  - ::6 dev lo proto kernel metric 256 pref medium
  - 2001:db8::/64 dev eth0 proto kernel metric 256 pref medium
  - fe80::/64 dev eth0 proto kernel metric 256 pref medium
  - default via fe80::1 dev eth0 proto ra metric 1024 expires 1795sec hoplimit 64 pref medium
  - unreachable default dev lo metric 4294967295 error -101 pref medium
sysctls: {net.ipv6.conf.all.forwarding: 1}
processes:
  app:
    uid: 1000
    gid: 1000
    listens: ["*:8080", "0.0.0.0:8081", "[::]:8082", "[::]:8083 v6only", "udp/[fe80::7]:53%eth0", "[2001:db8::7]:84"]
  envoy:
    uid: 1337
    gid: 1337
    listens: ["*:15006", "0.0.0.0:15001"]
    proxy:
      inbound: {accepts: 15006, connects-to: [original-destination, "[::1]:{port}"], source: [127.0.0.6, "::6"]}
      outbound: {accepts: 15001, connects-to: original-destination}
outside: {sources: "10.0.0.0/8, 2001:db8::/32, not fe80::/10"}
"""


def test_a_host_of_both_families_is_two_hosts_each_with_its_own():
    four, six = read_host_text(DUAL, "hosts/dual.yaml").views
    assert (four.host.family, six.host.family) == (Family.IPV4, Family.IPV6)
    assert [len(i.addresses) for i in four.host.interfaces] == [1, 1]
    assert [str(a) for i in six.host.interfaces for a in i.addresses] == [
        "::1/128", "::6/128", "2001:db8::7/64", "fe80::7/64",
    ]  # fmt: skip
    assert (len(four.host.routes), [spell_route(r) for r in six.host.routes]) == (1, [
        "2001:db8::/64 dev eth0 metric 256", "fe80::/64 dev eth0 metric 256", "default via fe80::1 dev eth0 metric 1024",
        "unreachable default metric 4294967295",
    ])  # fmt: skip
    assert six.rules_files == (Path("hosts/a.rules6"), Path("hosts/b.rules6"))
    assert six.host.sysctls == {
        "net.ipv6.conf.all.forwarding": 1,
        "net.netfilter.nf_conntrack_tcp_loose": 1,
    }
    assert "net.ipv6.conf.all.forwarding" not in four.host.sysctls
    assert (str(four.host.outside), str(six.host.outside)) == ("10.0.0.0/8", "2001:db8::/32, not fe80::/10")


RULES6 = """\
ip-rules6:
  - "0: from all lookup 255"
  - "9: from 2001:db8::/64 lookup 7"
  - "10: not from all fwmark 0x1/0x1 iif eth0 lookup 100"
  - "11: from all to fd00::/8 oif eth0 prohibit"
  - "12: from all lookup main suppress_prefixlength 0"
  - "32766: from all lookup 254"
routes6:
  - default via fe80::1 dev eth0 metric 1024 pref medium
  - local default dev lo table 100 metric 1024 pref medium
  - throw 2001:db8:9::/48 dev lo table 7 metric 1024 error -11 pref medium
  - default via fe80::2 dev eth0 table 7 metric 1024 pref medium
"""


def with_rules6(text: str = RULES6) -> str:
    before, _, after = DUAL.partition("routes6:\n")
    return before + text + after[after.index("sysctls") :]


def test_routing_rules_of_ipv6_are_those_of_the_ipv6_host_alone():
    four, six = (view.host for view in read_host_text(with_rules6(), "x").views)
    assert (four.policy, four.tables) == ((), {})
    net, v6 = Net.read, Family.IPV6
    assert six.policy == (
        h.RoutingRule(7, source=net("2001:db8::/64", v6)),
        h.RoutingRule(100, in_iface="eth0", mark=MarkMask(1, 1), negated=True),
        h.RoutingRule(None, destination=net("fd00::/8", v6), out_iface="eth0", kind=h.RouteKind.PROHIBIT),
        h.RoutingRule(h.MAIN, suppress=0),
        h.RoutingRule(h.MAIN),
    )
    every = Net(0, 0, v6)
    assert six.tables == {
        100: (h.Route(every, "lo", kind=h.RouteKind.LOCAL, metric=1024),),
        7: (
            h.Route(net("2001:db8:9::/48", v6), None, kind=h.RouteKind.THROW, metric=1024),
            h.Route(every, "eth0", read_address("fe80::2", v6), metric=1024),
        ),
    }
    assert len(six.routes) == 1


def test_the_kernels_own_rules_of_ipv6_are_none():
    own = 'ip-rules6: ["0: from all lookup local", "32766: from all lookup main"]\n'
    assert read_host_text(with_rules6(own), "x").views[1].host.policy == ()


WORDS = "not from 10.0.0.0/8 fwmark 0x1/0x3 iif lo tos 0x10 uidrange 10-20 ipproto 6 sport 80 dport 1-90"


@pytest.mark.parametrize(
    "said", [WORDS, WORDS.replace("ipproto 6", "ipproto ipproto-6"), WORDS.replace(" 6", " tcp")]
)
def test_a_routing_rule_asks_for_what_sockets_and_headers_have_and_is_spelled_so(said: str):
    """As `ip rule` prints it, or `ip -N rule`."""
    rule = read_routing_rule(f"9: {said} lookup 7").rule
    assert (rule.uids, rule.protocol, rule.tos) == (Ids(10, 20), TCP, 0x10)
    assert (rule.source_ports, rule.destination_ports) == (Span(80, 80), Span(1, 90))
    assert read_routing_rule(f"9: {spell_rule(rule)}").rule == rule


def test_rules_that_bar_are_read_as_numbers_too():
    """Which `ip -N rule` prints."""
    assert read_routing_rule("9: from all 6") == read_routing_rule("9: from all blackhole")
    assert read_routing_rule("9: from all 7") == read_routing_rule("9: from all unreachable")
    assert read_routing_rule("9: from all 8") == read_routing_rule("9: from all prohibit")


CILIUM = """\
rules: a.rules
interfaces:
  lo: {addresses: [127.0.0.1/8]}
  eth0: {addresses: [10.33.4.7/24]}
routes: [default via 10.33.4.1 dev eth0, local default dev lo table 2004]
ip-rules:
  - "9: from all fwmark 0x200/0xf00 lookup 2004"
  - "100: from all lookup local"
  - "32766: from all lookup main"
  - "32767: from all lookup default"
"""


def test_rules_before_that_of_the_local_table_are_read_and_spelled():
    host = read_host_text(CILIUM, "x").host
    assert host.before_local == (h.RoutingRule(2004, mark=MarkMask(0x200, 0xF00)),)
    assert [rule.table for rule in host.policy] == [h.MAIN, 253]
    again = read_bare_host(json.dumps(spell_host(host)), "x", host.name)
    assert (again.before_local, again.policy, again.tables[2004]) == (
        host.before_local, host.policy, host.tables[2004],
    )  # fmt: skip


def test_routing_rules_of_ipv6_make_a_host_of_ipv6():
    text = POD.replace("sets: []", 'ip-rules6: ["0: from all lookup local", "9: from all prohibit"]')
    four, six = (view.host for view in read_host_text(text, "x").views)
    assert (four.family, len(four.policy)) == (Family.IPV4, 0)
    assert (six.family, len(six.policy)) == (Family.IPV6, 1)


def test_a_host_with_routing_rules_of_ipv6_is_read_back_as_it_is_spelled():
    host = read_host_text(with_rules6(), "x").views[1].host
    text = json.dumps(spell_host(host))
    assert '"ip-rules6"' in text
    again = read_bare_host(text, "x", host.name)
    assert (again.policy, again.tables, again.routes) == (host.policy, host.tables, host.routes)


def test_a_socket_is_a_listener_in_each_family_that_it_takes():
    four, six = (view.host.process("app") for view in read_host_text(DUAL, "x").views)
    assert [str(x) for x in four.listens] == ["*:8080", "*:8081", "*:8082"]
    assert [str(x) for x in six.listens] == [
        "*:8080", "*:8082", "*:8083", "udp/[fe80::7]:53%eth0", "[2001:db8::7]:84",
    ]  # fmt: skip


def test_a_proxy_is_one_in_the_families_in_which_it_accepts_and_binds_that_familys_source():
    four, six = (view.host.process("envoy") for view in read_host_text(DUAL, "x").views)
    assert ([p.name for p in four.proxies], [p.name for p in six.proxies]) == (
        ["inbound", "outbound"],
        ["inbound"],
    )
    assert [p.proxies[0].routes[0].source for p in (four, six)] == [
        BoundTo(0x7F000006),
        BoundTo(6, Family.IPV6),
    ]
    assert Dial(1, None, Family.IPV6) in four.proxies[0].routes[0].dials


def test_a_family_with_addresses_but_no_rules_has_none_and_lo_alone_is_no_family():
    with_address = POD.replace("10.33.4.7/24]", '10.33.4.7/24, "2001:db8::1/64"]')
    assert [v.rules_files == () for v in read_host_text(with_address, "x").views] == [False, True]
    with_lo = POD.replace("127.0.0.1/8]", '127.0.0.1/8, "::1/128"]')
    assert [v.host.family for v in read_host_text(with_lo, "x").views] == [Family.IPV4]


def test_a_host_of_ipv6_alone_has_no_ipv4_side():
    text = 'rules6: a\ninterfaces: {lo: {addresses: [127.0.0.1/8, "::1/128"]}, eth0: {addresses: ["2001:db8::1/64"]}}'
    assert [v.host.family for v in read_host_text(text, "x").views] == [Family.IPV6]


# -- what is taken for granted ----------------------------------------------------------------------


def test_sysctls_not_given_are_filled_in_and_named_in_one_assumption():
    host = pod()
    assert set(host.sysctls) == {*h.DEFAULTS, "net.ipv4.conf.eth0.rp_filter"}
    assert host.sysctls["net.ipv4.conf.all.rp_filter"] == 1
    assert host.assumptions == (
        h.Assumption(
            "A003",
            "sysctls not given have the kernel's defaults: ip_forward 0, route_localnet 0, accept_local 0, "
            "send_redirects 1, nf_conntrack_tcp_loose 1",
        ),
    )


def test_a_table_that_a_rule_names_may_be_empty():
    text = POD.replace("ip-rules: []", 'ip-rules: ["0: from all lookup local", "9: from all lookup 7"]')
    host = read_host_text(text, "x").host
    assert host.tables == {7: ()}
    assert [a.text for a in host.assumptions if a.code == "A017"] == [
        "table 7, which `ip-rules` names, has no routes"
    ]


def test_forwarding_has_two_names():
    text = POD.replace("net.ipv4.conf.all.rp_filter: 1", "net.ipv4.conf.all.forwarding: 1")
    assert read_host_text(text, "x").host.sysctls["net.ipv4.ip_forward"] == 1
    both = text.replace("sysctls: {", "sysctls: {net.ipv4.ip_forward: 0, ")
    with pytest.raises(HostError, match="given otherwise"):
        read_host_text(both, "x")


def test_all_sysctls_given_leave_no_assumption():
    given_all = "sysctls:\n" + "".join(f"  {k}: 1\n" for k in h.DEFAULTS)
    text = re.sub(r"sysctls: .*\n", given_all, POD)
    assert read_host_text(text, "x").host.assumptions == ()


def test_without_routes_the_connected_ones_are_assumed_and_with_an_empty_list_there_are_none():
    text = re.sub(r"routes:\n(  - .*\n)+", "", POD, count=1)
    host = read_host_text(text, "x").host
    assert host.routes == (h.Route(Net.read("10.33.4.0/24"), "eth0", source=a("10.33.4.7")),)
    assert [x.code for x in host.assumptions] == ["A003", "A010"]
    assert "10.33.4.0/24 dev eth0 src 10.33.4.7" in host.assumptions[1].text
    assert read_host_text("routes: []\n" + text, "x").host.routes == ()


def test_of_two_addresses_in_one_subnet_the_first_has_the_connected_route():
    text = "rules: a\ninterfaces: {lo: , eth0: {addresses: [10.0.0.9/24, 10.0.0.8/24, 10.1.1.1/32]}}"
    (route,) = read_host_text(text, "x").host.routes
    assert route.source == a("10.0.0.9")


# -- Envoy's clusters -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.9", "1.10"])
def test_a_host_from_envoys_clusters_is_the_host_with_written_routes(version: str):
    written = read_host_text((HOSTS / f"istio-{version}.yaml").read_text(), str(HOSTS / "x.yaml")).host
    taken = read_host_text((HOSTS / f"istio-{version}-envoy.yaml").read_text(), str(HOSTS / "x.yaml")).host
    assert written == taken


def cluster(body: str, name: str = "inbound|8080||") -> str:
    return f'[{{"name": "{name}", {body}}}]'


STATIC = (
    '"loadAssignment": {"endpoints": [{"lbEndpoints": [{"endpoint": {"address": {"socketAddress": '
    '{"address": "127.0.0.1", "portValue": %d}}}}]}]}'
)


def test_a_file_without_passthrough_has_no_route_for_other_ports():
    (route,) = read_clusters_text(cluster('"type": "ORIGINAL_DST"'), "c.json")
    assert route == h.ProxyRoute((h.Dial(),), h.KernelChooses(), (Span(8080, 8080),))


def test_a_cluster_without_type_is_static():
    (route,) = read_clusters_text(cluster(STATIC % 8081), "c.json")
    assert route.dials == (h.Dial(a("127.0.0.1"), 8081),)


def test_a_cluster_named_the_old_way_is_read_where_its_port_is_the_endpoints():
    (route,) = read_clusters_text(cluster(STATIC % 8080, "inbound|8080|http|a.b.svc"), "c.json")
    assert route.ports == (Span(8080, 8080),)
    with pytest.raises(HostError, match="the service's port"):
        read_clusters_text(cluster(STATIC % 8081, "inbound|80|http|a.b.svc"), "c.json")


def test_one_object_is_read_like_a_list_of_one():
    text = cluster('"type": "ORIGINAL_DST"')
    assert read_clusters_text(text[1:-1], "c.json") == read_clusters_text(text, "c.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n{"name": }]', "this is not JSON: Expecting value"),
        ("", "this is not JSON"),
        ("[\n", "this is not JSON"),
        ("[1]", "an object with a name"),
        ("[]", "no inbound cluster"),
        (cluster('"type": "EDS"'), r"cluster `inbound\|8080\|\|`: clusters of type EDS are not read"),
        (cluster('"type": "STRICT_DNS"'), "STRICT_DNS"),
        (cluster('"type": "STATIC"'), "needs an endpoint"),
        (cluster('"clusterType": {"name": "x"}'), "clusterType"),
        (cluster('"type": "ORIGINAL_DST"', "inbound|x||"), "`x` is no port"),
        (
            cluster('"type": "ORIGINAL_DST", "originalDstLbConfig": {"useHttpHeader": true}'),
            "originalDstLbConfig",
        ),
        (
            cluster('"type": "ORIGINAL_DST", "upstreamBindConfig": {"socketOptions": []}'),
            "`socketOptions` is not read",
        ),
        (
            cluster(
                '"type": "ORIGINAL_DST", "upstreamBindConfig": {"sourceAddress": {"address": "127.0.0.6", "portValue": 9}}'
            ),
            "fixed source port",
        ),
        (cluster('"type": "STATIC"', "InboundPassthroughCluster"), "ORIGINAL_DST"),
    ],
)
def test_clusters_that_cannot_be_read_are_named(text: str, message: str):
    with pytest.raises(HostError, match=message) as e:
        read_clusters_text(text, "c.json")
    assert e.value.place.file == "c.json"


def test_an_error_in_a_cluster_has_the_place_of_its_name():
    with pytest.raises(HostError) as e:
        read_clusters_text('[\n  {"type": "EDS",\n   "name": "inbound|8080||"}]', "c.json")
    assert (e.value.place.line, e.value.place.column) == (3, 13)


# -- what is refused ----------------------------------------------------------------------------


def change(old: str, new: str) -> str:
    assert old in POD
    return POD.replace(old, new, 1)


REFUSED = [
    ("", "is empty", 1),
    ("a: [", "not YAML", 1),
    ("- a", "not as a list", 1),
    (change("backend: nft", "backend: nfs"), "`nfs` is no backend", 2),
    (change("backend:", "bakend:"), "`bakend` is no key of a host file", 2),
    (
        change("ip-rules: []", 'ip-rules: ["0: from all lookup main"]'),
        "one rule is `from all lookup local`",
        10,
    ),
    (change("ip-rules: []", 'ip-rules: ["0: from all lookup local"]'), "no rule stands behind", 10),
    (
        change(
            "ip-rules: []",
            'ip-rules: ["9: from all fwmark 1 lookup main", "10: from all lookup local", "11: from all lookup main"]',
        ),
        "sockets that are bound to a device",
        10,
    ),
    (
        change("ip-rules: []", 'ip-rules: ["0: from all lookup local", "9: from all lookup mine"]'),
        "write its number",
        10,
    ),
    *(
        (change("ip-rules: []", f'ip-rules: ["9: from all {words} lookup main"]'), message, 10)
        for words, message in (
            ("tos 4x", "`4x` is no TOS in hexadecimal"),
            ("tos 0x20", "a TOS of a routing rule is one of 0x04"),
            ("uidrange 7", "`7` is no range of uids"),
            ("uidrange 9-7", "9-7 is not an id range"),
            ("ipproto nothing", "'nothing' is no protocol that we know"),
            ("ipproto 0", "0 is no protocol that a routing rule asks for"),
            ("sport 80:90", "`80:90` is no port, nor a range"),
            ("dport 0", "from 1 to 65534"),
            ("dport 1-65535", "from 1 to 65534"),
            ("dscp 4", "`dscp` in a routing rule is not read yet"),
        )
    ),
    (change("ip-rules: []", 'ip-rules: ["9: from all iif eth7 lookup main"]'), "no interface `eth7`", 10),
    (change("sets: []", "sets: [a.ipset]"), "is not there", 12),
    (change("127.0.0.1/8]", "127.0.0.1/8, 10.33.4.7/32]"), "lo has this address already", 5),
    (change("10.33.4.7/24]", "10.33.4.7/24, fe80::1/129]"), "no prefix length from 0 to 128", 5),
    (change("10.33.4.7/24]", "10.33.4.7/24, 2001:db8::/64]"), "an anycast address of", 5),
    (change("10.33.4.7/24]", "10.33.4.7/24, fec0::1/64]"), "site-local", 5),
    (change("10.33.4.7/24]", '10.33.4.7/24, "::ffff:1.2.3.4/128"]'), "write 1.2.3.4", 5),
    (change("10.33.4.7/24]", "10.33.4.7/24, ::5/128]"), "begins with a colon stands in quotes", 5),
    (change("127.0.0.1/8]", "127.0.0.1/8, 2001:db8::1/64]"), "of lo has the prefix length 128", 4),
    (change("sets: []", "rules6: []"), "`rules6` names no file", 12),
    (change("sets: []", "routes6: [default via 10.33.4.1 dev eth0]"), "no IPv6 address", 12),
    (change("sets: []", "routes6: [default via fe80::1]"), "needs `dev`", 12),
    (change('"*:8080"', '"[::]:80 v4only"'), "`v6only` is", 17),
    (change('"*:8080"', '"0.0.0.0:80 v6only"'), "goes with", 17),
    (change('"*:8080"', '"[fe80::1]:80"'), "needs its interface", 17),
    (change('"*:8080"', '"::1:80"'), "no socket that listens", 17),
    (change("source: 127.0.0.6", "source: [127.0.0.6, 127.0.0.1]"), "binds one IPv4 address", 32),
    (change("sets: []", "backend: nft"), "`backend` is given twice, first on line 2", 12),
    (change("10.33.4.7/24]", "10.33.4.7]"), "no prefix length", 5),
    (change("10.33.4.7/24]", "10.33.4.7/33]"), "no prefix length from 0 to 32", 5),
    (change("10.33.4.7/24]", "10.33.4.7/24, 10.33.4.7/16]"), "has this address already", 5),
    (change("  lo: {addresses: [127.0.0.1/8]}\n", ""), "every host has an interface `lo`", 4),
    (change("10.33.4.1 dev eth0", "10.33.4.1 dev eth1"), "no interface `eth1`", 7),
    (change("10.33.4.1 dev eth0", "10.33.4.1"), "needs `dev`", 7),
    (change("10.33.4.1 dev eth0", "10.33.4.1 dev eth0 table local"), "the local table follows", 7),
    (change("default via 10.33.4.1 dev eth0", "throw 10.0.0.0/8"), "`throw` in the main table", 7),
    (change("10.33.4.1 dev eth0", "10.33.4.1 dev eth0 encap mpls"), "`encap` in a route", 7),
    (change("src 10.33.4.7", "src 10.33.4.8"), "no address of this host", 8),
    (change("10.33.4.0/24 dev", "10.33.4.1/24 dev"), "beyond its prefix", 8),
    (change("blackhole 10.99.0.0/16", "default dev eth0"), "this prefix with this metric already", 9),
    (change("all.rp_filter: 1", "all.rp_filtr: 1"), "no sysctl that we know", 11),
    (change("all.rp_filter: 1", "all.rp_filter: 3"), "from 0 to 2", 11),
    (change("conf.eth0.rp", "conf.eth1.rp"), "`eth1` is no interface", 11),
    (change("  app:", "  outside:"), "`outside` is the name", 14),
    (change("not 1337", "not1337"), "no set of ids", 15),
    (change("uid: not 1337", "mark: 3"), "is given twice", 18),
    (change("    uid: not 1337\n", ""), "needs `uid:`", 14),
    (change('"*:8080"', '"8080"'), "no socket that listens", 17),
    (change('"*:8080"', '"*:80800"'), "no port", 17),
    (change('"*:8080"', '"sctp/*:80"'), "tcp or udp", 17),
    (change('"*:8080"', '"[::1]:80"'), "no address of this host", 17),
    (change('"*:8080"', '"10.33.4.9:80"'), "no address of this host", 17),
    (change('"*:8080"', '"*:80%eth9"'), "no interface `eth9`", 17),
    (change("binds-device: eth0", "binds-device: eth9"), "no interface `eth9`", 19),
    (change("raw: true", "raw: yes"), "`true` or `false`", 20),
    (change("0x539", "0x539/0xff"), "no mask", 18),
    (change('"*:15006", "*:15001"', '"*:15006", "*:8080"'), "`app` listens on this socket already", 24),
    (change("accepts: 15006", "accepts: 15007"), "does not listen on tcp port 15007", 27),
    (change("accepts: 15006", "acepts: 15006"), "`acepts` is no key of proxy `inbound`", 27),
    (change("accepts: 15001", "accepts: 15006"), "proxy `inbound` accepts on 15006 already", 33),
    (change("source: 127.0.0.6", "source: 10.0.0.1"), "no address of this host", 32),
    (change("source: client", "source: clint"), "'clint' is not an IPv4 address", 31),
    (change("connects-to: original-destination, source", "source"), "needs `connects-to:`", 32),
    (change("connects-to: original-destination", "connects-to: original"), "nowhere to connect to", 32),
    (change("refuses: [15001, 15006]", "envoy: c.json"), "and has several", 28),
    (change("unicast, not 10.33.4.7", "unicats"), "not an IPv4 address", 35),
    (change("sources:", "source:"), "no key of `outside`", 35),
]


REFUSED_6 = [
    ('"9: from 2001:db8::/64', '"9: from 2001:db8::/129', "no prefix length from 0 to 128", 9, 5),
    ('"9: from 2001:db8::/64', '"9: from 10.0.0.0/8', "`10.0.0.0` is no IPv6 address", 9, 5),
    ("from all lookup 255", "from all lookup 254", "one rule is `from all lookup local`", 8, 5),
    ('"0: from all lookup 255"', '"10: from all lookup 255"', "of IPv6 before `from all lookup local`", 8, 5),
    ("prohibit", "tos 0x10 prohibit", "`tos` in a routing rule of IPv6 is not read yet", 11, 5),
    ("oif eth0", "oif eth1", "no interface `eth1`", 11, 5),
    ("fe80::2 dev eth0 table 7", "fe80::2 dev eth0 table mine", "write its number", 18, 5),
    ("local default dev lo table 100", "local default dev lo", "`local` in the main table", 16, 5),
    ("local default dev lo table", "2001:db8:5::1 dev lo table", "over lo are not modelled", 16, 5),
    ("local default dev lo table 100", "local default dev eth0 table 100", "with `dev lo` alone", 16, 5),
]


@pytest.mark.parametrize(("old", "new", "message", "line", "column"), REFUSED_6)
def test_routing_of_ipv6_that_cannot_be_right_is_refused_at_its_place(
    old: str, new: str, message: str, line: int, column: int
):
    assert old in RULES6
    text = with_rules6(RULES6.replace(old, new, 1))
    with pytest.raises(HostError, match=message) as e:
        read_host_text(text, "dual.yaml")
    place = e.value.place
    assert (place.file, place.line, place.column) == ("dual.yaml", line, column)
    assert e.value.line == text.splitlines()[line - 1]


def test_a_table_of_ipv6_without_routes_is_told_of_that_family_alone():
    both = read_host_text(with_rules6(RULES6.replace("lookup 7", "lookup 8")), "dual.yaml").views
    told = {v.host.family: [a.text for a in v.host.assumptions if a.code == "A017"] for v in both}
    assert told == {Family.IPV4: [], Family.IPV6: ["table 8, which `ip-rules6` names, has no routes"]}


@pytest.mark.parametrize(("text", "message", "line"), REFUSED, ids=[m for _, m, _ in REFUSED])
def test_a_host_file_that_cannot_be_right_is_refused_at_its_line(text: str, message: str, line: int):
    with pytest.raises(HostError, match=message) as e:
        read_host_text(text, "pod.yaml")
    assert e.value.place.file == "pod.yaml"
    if text:
        assert e.value.line == text.splitlines()[line - 1]
    assert e.value.place.line == line


@pytest.mark.parametrize("number", [i for i, x in enumerate(POD.splitlines()) if re.match(r" *[\w-]+:", x)])
def test_a_key_that_is_misspelled_is_never_ignored(number: int):
    lines = POD.splitlines()
    key = re.match(r" *([\w-]+):", lines[number])
    assert key is not None
    if key[1] in ("lo", "eth0", "app", "envoy", "inbound", "outbound"):
        return
    lines[number] = lines[number].replace(key[1] + ":", key[1] + "x:", 1)
    with pytest.raises(HostError) as e:
        read_host_text("\n".join(lines), "pod.yaml")
    assert e.value.place.line == number + 1
    assert e.value.hint == f"did you mean `{key[1]}`?"


def test_a_missing_rules_file_is_refused_where_it_is_named(tmp_path: Path):
    path = tmp_path / "pod.yaml"
    path.write_text(POD)
    (tmp_path / "a.rules").write_text("")
    with pytest.raises(HostError, match=r"b\.rules is not there") as e:
        read_host(path)
    assert (e.value.place.line, e.value.place.column) == (1, 18)
    (tmp_path / "b.rules").write_text("")
    assert read_host(path).host == pod()


# -- laws ---------------------------------------------------------------------------------------

addresses = st.integers(0x01000000, 0xDFFFFFFF)
ports = st.integers(1, 0xFFFF)


@given(
    st.builds(
        h.Listener, ports, st.none() | addresses, st.sampled_from([TCP, UDP]), st.none() | st.just("eth0")
    )
)
def test_a_listener_that_we_spell_we_read_back(listener: h.Listener):
    assert read_listener(str(listener)) == listener


@given(st.builds(h.Dial, st.none() | addresses, st.none() | ports))
def test_a_dial_that_we_spell_we_read_back(dial: h.Dial):
    assert read_dial(str(dial)) == dial


@given(
    st.builds(
        h.Route,
        st.builds(Net.prefix, addresses, st.integers(0, 32)),
        st.just("eth0"),
        st.none() | addresses,
        st.none() | addresses,
        metric=st.integers(0, 0xFFFFFFFF),
    )
    | st.builds(
        h.Route,
        st.builds(Net.prefix, addresses, st.integers(0, 32)),
        st.none(),
        kind=st.sampled_from(h.BARRED),
    )
)
def test_a_route_that_we_spell_we_read_back(route: h.Route):
    assert read_route(spell_route(route)) == (h.MAIN, route)


@pytest.mark.parametrize(
    "line",
    [
        "default via 169.254.1.1 dev eth0 onlink",
        "default via 10.0.0.1 dev eth0 proto dhcp metric 100 linkdown",
        "10.0.0.9 dev eth0 scope link",
        "unreachable default metric 4278198272",
        "10.0.0.0/8 via 10.0.0.1 dev eth0 table main mtu 1400",
    ],
)
def test_lines_that_ip_route_prints_are_read(line: str):
    table, route = read_route(line)
    assert (table, route.net.length is None) == (h.MAIN, False)


@pytest.mark.parametrize("text", ["not any", "", "not", "1-", "-1", "5-3", "4294967295", "1,", "nobody"])
def test_what_is_no_set_of_ids_is_refused(text: str):
    with pytest.raises(ValueError, match=r"\w"):
        read_ids(text)


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_host_of_the_sidecar_proofs_is_the_pod_but_for_its_proxy(path: Path):
    host = read_host_text(path.read_text(), str(path)).host
    base = read_host_text((HOSTS / "istio-1.10.yaml").read_text(), "x").host
    assert replace(host, name="", processes=()) == replace(base, name="", processes=())
    assert host.process("app") == base.process("app")
    assert host.assumptions == ()
