"""What every answer takes for granted, with a code for each: printed with the answer, refusable by `--deny`."""

from __future__ import annotations

from . import claims as c
from .asked import fields_carried
from .hooks import BUILT_IN
from .hosts import Assumption, Setting
from .values import IPV4

NEW = Assumption(
    "A001", "new connection: conntrack is empty, and of each connection we follow the first packet"
)
AFTER = Assumption(
    "A014",
    "conntrack is empty, or holds the entry of one earlier packet as that, and perhaps an answer to it, has left it",
)
LATER = Assumption(
    "A015",
    "conntrack is empty but for the packet's own connection, which has been answered; its packets are in order, and from one interface",
)
WHOLE = Assumption("A002", "packets are whole, with right checksums, no IP options and TTL > 1")
OF_ANY_TTL = Assumption("A002", "packets are whole, with right checksums and no IP options")
"""The same where packets of every TTL are followed, since a rule or a premise asks for it."""
ORDINARY = Assumption("A005", "sockets bind no device and set no mark unless the host file says so")
IN_GROUPS = Assumption(
    "A005",
    "sockets bind no device, set no mark and have no supplementary groups unless the host file says so",
)
"""The same where a rule or a premise asks for these groups."""
GONE = Assumption("A006", "what leaves the host does not come back")
ALONE = Assumption(
    "A008", "nothing else in the network namespace filters or translates, and no two flows clash over a port"
)
ANSWERED = Assumption(
    "A013",
    "whoever gets a packet answers it, from where it came to, and the far machine to the interface by which it left",
)
TOLD = Assumption(
    "A016",
    "a REJECT's packet is sent each time: ICMP's limits of rates are not reached, and its sysctls are the kernel's",
)
HELPERS = Assumption("A011", "no conntrack helper expects a related connection")
COUPLED = Assumption("A009", "matches that are not understood answer alike on both hosts")

SHORT = {
    NEW.code: "new connection",
    WHOLE.code: "whole packets",
    ORDINARY.code: "ordinary sockets",
    AFTER.code: "one earlier packet at most",
    LATER.code: "a connection that stands",
    GONE.code: "nothing comes back",
    ALONE.code: "nothing else filters",
    COUPLED.code: "opaque matches agree",
}
"""A few words for those that are the same for every host."""

EXPLAINED = {
    "A001": "A connection's first packet decides its NAT; later packets are not followed. `where -m conntrack --ctstate ...` speaks of other states, `be answered` and `answer to a ...` of what comes back, `established packet` of the later packets of a connection, `even after a packet from ...` of what finds the entry of an earlier packet.",
    "A002": "Fragments, bad checksums, extension headers that no rule asks for and packets about to expire take other ways through the kernel.",
    "A003": "A sysctl that the host file does not give has the kernel's own default; give it to be sure.",
    "A004": "A proxy dials as the host file (or its Envoy configuration) says, and from there only.",
    "A005": "Any user may bind a socket to a device, and root may set a mark: declare `binds-device:` or `mark:` for a process that does, and `suppl-groups:` where rules ask for these. A link-local IPv6 address needs a zone, which is such a device too.",
    "A006": "No machine beyond the wire sends an answer that starts a new connection here.",
    "A007": "A table that the rules file does not hold is taken as empty.",
    "A008": "Rules of another backend, of nftables, eBPF or another namespace are not seen; nor is the source port that NAT picks on a clash.",
    "A009": "When two hosts are compared, one opaque match (same text, same place) is taken to give one answer.",
    "A010": "Without `routes:` the main table holds the connected routes of the addresses.",
    "A017": "A table that a routing rule names and `routes:` gives no route of is taken as empty, so that the rule finds nothing there and the next one is asked.",
    "A011": "No conntrack helper expects a related connection.",
    "A013": "What is sent from the address and port to which it goes is not spoken of. A server that answers from another address, a path back that comes in by another interface, and a machine that does not answer are not looked at.",
    "A014": "What several packets have left together, and the entry that an answer has made of its own in another zone, are not looked at. Whether an answer has been seen is left open where the earlier packet came to somebody.",
    "A015": "A connection stands when the answer to its first packet has come back to who sent that. Of TCP a later packet has a sequence number in the window and flags of one behind the handshake; of SCTP and DCCP, of connections that clash with others, and of packets that come by another interface than the first one nothing is said, nor of a connection from an address and port to the same.",
    "A016": "The kernel sends at most some ICMP errors a second, to one peer (net.ipv4.icmp_ratelimit) and to all (icmp_msgs_per_sec): beyond that a REJECT is silent. fwmark_reflect, icmp_errors_use_inbound_ifaddr and ip_default_ttl have their defaults, and so have routes' hoplimit and mtu.",
    "A012": "An ip set holds what the file of `sets:` says: nobody but the rules changes it meanwhile, and what the rules change is not known. An entry with a timeout may have gone when a packet comes; nobody adds it again, or another.",
}


def of(setting: Setting, premise: c.Premise | None = None) -> tuple[Assumption, ...]:
    """What an answer about this setting takes for granted."""
    out = list(setting.host.assumptions)
    carried = fields_carried(setting)
    out += [OF_ANY_TTL if "ttl" in carried else WHOLE, IN_GROUPS if "groups" in carried else ORDINARY]
    out += [GONE, ALONE]
    if premise is not None and premise.established:
        out.append(LATER)
    elif premise is not None and premise.after is not None:
        out.append(AFTER)
    elif premise is None or not premise.any_state:
        out.append(NEW)
    if setting.answers or (premise is not None and premise.established):
        out.append(ANSWERED)
    if setting.rejections:
        out.append(TOLD)
    proxies = [f"{p.name}.{x.name}" for p in setting.host.processes for x in p.proxies]
    if proxies:
        out.append(Assumption("A004", f"{', '.join(proxies)} dial as declared in {setting.host.name}"))
    if setting.host.sets:
        out.append(
            Assumption("A012", f"sets {', '.join(sorted(setting.host.sets))} hold what their files say")
        )
    absent = [t for t in BUILT_IN if t not in setting.rules.tables]
    if absent:
        kind = "" if setting.host.family is IPV4 else "IPv6 "
        out.append(Assumption("A007", f"{kind}tables {', '.join(absent)} not given: empty"))
    return tuple(sorted(set(out), key=lambda a: (a.code, a.text)))
