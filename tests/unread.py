"""What no strategy of rules with a meaning draws yet."""

from __future__ import annotations

from typing import Any

from verifier import rules as r

UNTOLD: tuple[Any, ...] = (
    r.TcpOption, r.SctpChunks, r.DccpTypes, r.DccpOption, r.Icmp6Type, r.Esp, r.Ah, r.Ipv6Header, r.SourceRange,
    r.DestinationRange, r.Length, r.Ttl, r.Tos, r.Dscp, r.PacketType, r.MacSource, r.Conntrack, r.ConnMark,
    r.AddressType, r.MatchSet, r.ReversePath, r.SocketMatch, r.Physdev, r.Chance,
    r.Snat, r.Masquerade, r.Netmap, r.Tproxy, r.SetConnMark, r.SaveMark, r.RestoreMark, r.NoTrack, r.TrackAs, r.ChangeTtl,
    r.SetTos, r.SetDscp, r.ClampMss, r.SetEntry, r.Queue,
)  # fmt: skip
"""Classes that a wing does not understand yet."""
