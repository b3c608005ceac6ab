//! The last checks on a frame's way: may it have this source, and may it go where its destination is?

crate::drop_reasons! {
    /// Why a source address is refused.
    pub enum SourceDrop {
        /// The source address is a group address, broadcast or all zero: no station has it.
        BadSource => "bad_source",
        /// The source address moved between ports too often, as it does where two of them are bridged together, and is held
        /// on another one for now: `vsctl fdb list` says on which.
        MacFlapping => "mac_flapping",
    }
}

crate::drop_reasons! {
    /// Why a frame has no way to its destination.
    pub enum ForwardDrop {
        /// The destination is 01:80:C2:00:00:00 to 0F, which bridges keep to themselves (spanning tree, LACP, LLDP).
        ReservedAddress => "reserved_address",
        /// The destination was last seen on the port that the frame came in on.
        SamePort => "same_port",
        /// The frame came from a remote VTEP and its destination is behind another one, which the sender reaches itself.
        SplitHorizon => "split_horizon",
        /// The frame has two 802.1Q tags and would leave without the first, so that the second would put it in another
        /// VLAN behind the switch.
        DoubleTag => "double_tag",
        /// The frame is for many, or for an unknown station, and nobody else is in its VLAN.
        NoMember => "no_member",
    }
}
