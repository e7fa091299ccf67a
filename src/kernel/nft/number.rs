//! Numbers that appear in instructions: linux/netfilter/nf_tables.h, unless another header is named. Nothing else.

pub(crate) const META_PROTOCOL: u32 = 1;
pub(crate) const META_MARK: u32 = 3;
pub(crate) const META_IIFNAME: u32 = 6;
pub(crate) const META_OIFNAME: u32 = 7;
pub(crate) const META_NFPROTO: u32 = 15;
pub(crate) const META_L4PROTO: u32 = 16;
pub(crate) const LINK_HEADER: u32 = 0;
pub(crate) const NETWORK_HEADER: u32 = 1;
pub(crate) const TRANSPORT_HEADER: u32 = 2;
pub(crate) const CT_STATE: u32 = 0;
pub(crate) const CT_STATUS: u32 = 2;
pub(crate) const FIB_DADDR: u32 = 2;
/// NFT_FIB_RESULT_ADDRTYPE; the generated enumeration counts from zero and says 2.
pub(crate) const FIB_ADDRTYPE: u32 = 3;
/// NFT_REG_VERDICT: what is loaded there is what happens.
pub(crate) const VERDICT_REGISTER: u32 = 0;
pub(crate) const VERDICT_DROP: u32 = 0;
pub(crate) const VERDICT_ACCEPT: u32 = 1;
pub(crate) const VERDICT_RETURN: u32 = 0xffff_fffb;
pub(crate) const VERDICT_GOTO: u32 = 0xffff_fffc;
pub(crate) const VERDICT_JUMP: u32 = 0xffff_fffd;
/// NFT_REG_1, 16 bytes; the same place as the first four 4-byte registers.
pub(crate) const REGISTER: u32 = 1;
/// IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h.
pub(crate) const IPS_DST_NAT: u32 = 1 << 5;
/// RTN_LOCAL, linux/rtnetlink.h.
pub(crate) const RTN_LOCAL: u32 = 2;
pub(crate) const NFPROTO_IPV4: u8 = 2;
pub(crate) const NFPROTO_IPV6: u8 = 10;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(crate) const TCP: u8 = 6;
/// RFC 9293: a bit of the byte of flags.
pub(crate) const TCP_SYN: u8 = 2;
