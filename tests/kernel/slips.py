"""Single wrong lines of the concrete wing that the kernel has to notice: those of `tests.agree.slips` that packets can show, and misreadings of netfilter."""

from __future__ import annotations

from tests.agree.slips import SLIPS, Slip

UNSEEN = frozenset(
    {
        "a match that drops the packet only fails to match",
        "what an entry's counters say never holds",
        "with --suppl-groups a packet without a socket may match",
        "of a mark that is saved the whole is shifted",
        "the source selected is the destination itself, not its subnet's first address",
        "a route's own source is not selected",
        "the first listener gets it, and not the most specific",
        "a listener bound to a device gets everything",
        "the original destination is the one after NAT",
        "the last route of a proxy that fits is taken, not the first",
        "what a proxy refuses it dials",
        "a proxy's process sets no mark",
        "the first dial is taken, whatever was chosen",
        "a port is given to protocols without ports",
        "the socket survives lo",
        "an entry stays whose time runs",
        "an entry by another interface ends the search when it has gone",
        "a member of a list stays whose time runs",
    }
)
"""About what the oracle does not show: opaque matches, which socket gets a packet, what proxies dial, ports that no header has, owners
where the kernel loads no rule that asks for one; forwarded packets at a rule of POSTROUTING that denies a group, which random rules hardly ever
have, marks that are shifted into others as they are saved (facts show them), and entries whose time runs (test_sets.py)."""

MISREADINGS = (
    Slip(
        "RETURN in a built-in chain accepts",
        "chains.py",
        "    _tell(visit, Act.POLICY, packet, name)\n",
        "    last = visit.record.stops[-1]\n"
        "    rules = visit.table.chains[name].rules\n"
        "    if last.chain == name and last.rule and isinstance(rules[last.rule - 1].target, r.Return):\n"
        "        return packet, None\n"
        "    _tell(visit, Act.POLICY, packet, name)\n",
    ),
    Slip(
        "the DNAT bit is set by a new port alone",
        "nat.py",
        "status=known.status | DST_NAT)",
        "status=known.status | (DST_NAT if port != packet.dport else 0))",
    ),
    Slip(
        "--chunk-types only wants every listed chunk",
        "matches.py",
        "return bool(present) and all(kind in asked.chunks and False not in good[kind] for kind in present)",
        "return {*present} == asked.chunks",
    ),
    Slip(
        "a mark that mangle OUTPUT changes is not routed anew",
        "travel.py",
        'if name == "mangle" and _routed_anew',
        'if name == "none" and _routed_anew',
    ),
    Slip(
        "a multicast address is reached by the main table's route, whatever the source",
        "routing.py",
        "if src and device is None and is_abroad(dst):",
        "if not src and device is None and is_abroad(dst):",
    ),
    Slip(
        "what is forwarded keeps its TTL",
        "travel.py",
        "packet = replace(packet, ttl=packet.ttl - 1)",
        "packet = replace(packet, ttl=packet.ttl)",
    ),
    Slip(
        "--ttl-inc goes on from 255 at 0",
        "targets.py",
        "return min(ttl + value, 255)",
        "return ttl + value & 255",
    ),
    Slip(
        "REDIRECT at PREROUTING takes the last address",
        "nat.py",
        "return addresses[0].ip if addresses else None",
        "return addresses[-1].ip if addresses else None",
    ),
    Slip(
        "ports of NAT are shifted the wrong way from their base",
        "nat.py",
        "((own - to.base) & 0xFFFF)",
        "((own + to.base) & 0xFFFF)",
    ),
    Slip(
        "a packet that is UNTRACKED asks nat",
        "travel.py",
        "if packet.ctstate is not CtState.NEW:\n",
        "if packet.ctstate not in (CtState.NEW, CtState.UNTRACKED):\n",
    ),
    Slip(
        "--ctorigdst is the source",
        "tracked.py",
        "return original.dst, original.dport",
        "return original.src, original.sport",
    ),
)

CAUGHT = (*(slip for slip in SLIPS if slip.name not in UNSEEN), *MISREADINGS)
