//! The last checks on a frame's way: may it have this source, and may it go where its destination is?

crate::drop_reasons! {
    /// Why a source address is refused.
    pub enum SourceDrop {
        /// The source address is a group address, broadcast or all zero: no station has it.
        BadSource => "bad_source",
            "Look for a broken or hostile program in the container: `vsctl capture drops --reason bad_source`.",
        /// The source address moved between ports too often, as it does where two of them are bridged together, and is held
        /// on another one for now: `vsctl fdb list` says on which.
        MacFlapping => "mac_flapping",
            "Find the loop, or the second owner of the address, between the ports that `vsctl fdb list` and the log \
             name, and cut it; the address is let go once it rests.",
    }
}

crate::drop_reasons! {
    /// Why a frame has no way to its destination.
    pub enum ForwardDrop {
        /// The destination is 01:80:C2:00:00:00 to 0F, which bridges keep to themselves (spanning tree, LACP, LLDP).
        ReservedAddress => "reserved_address",
            "Nothing: such frames end at the next bridge, as IEEE 802.1Q wants it. Turn the protocol off in the \
             container if it should be silent.",
        /// The destination was last seen on the port that the frame came in on.
        SamePort => "same_port",
            "Nothing, if there is a bridge or macvlan in the container, which has delivered the frame itself. A few \
             occur when a station moves.",
        /// The frame came from a remote VTEP and its destination is behind another one, which the sender reaches itself.
        SplitHorizon => "split_horizon",
            "Tell the sending switch of the destination's host as a peer of that VLAN: remotes are a full mesh.",
        /// The frame has two 802.1Q tags and would leave without the first, so that the second would put it in another
        /// VLAN behind the switch.
        DoubleTag => "double_tag",
            "Do not stack 802.1Q tags below an access port or a native VLAN; carry the inner VLANs as a trunk.",
        /// The frame is for many, or for an unknown station, and nobody else is in its VLAN.
        NoMember => "no_member",
            "If somebody should be there: `vsctl vlan list` shows who is in the VLAN; add the port or the peer \
             (`vsctl vtep peer add IP --vlan VID`). For a lonely port it is normal.",
    }
}
