// The two programs of drivers/xdp/programs/vlan_mux.ts as one would write them in C: what the benchmark compares our bytecode
// with. clang -O2 -g -target bpf -c vlan_mux.c (clang, libbpf-dev)

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IFINDEX_MAX 4095
#define TYPE_VLAN 0x8100
#define TYPE_SERVICE_VLAN 0x88a8

enum counter { RECEIVED, TOO_SHORT, BAD_IFINDEX, NO_HEADROOM, NO_ROUTER, UNTAGGED, NO_ID, PRIORITY, UNKNOWN_PORT, COUNTERS };

// The loader makes the maps and finds them by these names alone.
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
} router_iface SEC(".maps"), ports SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
} physical_count SEC(".maps"), router_count SEC(".maps");

static __always_inline void count(void *map, __u32 index) {
    __u64 *value = bpf_map_lookup_elem(map, &index);
    if (value)
        (*value)++;
}

static __always_inline int drop(void *map, __u32 index) {
    count(map, index);
    return XDP_DROP;
}

SEC("xdp/physical")
int physical(struct xdp_md *ctx) {
    count(&physical_count, RECEIVED);
    __u32 ifindex = ctx->ingress_ifindex;
    if ((void *)(long)ctx->data + 14 > (void *)(long)ctx->data_end)
        return drop(&physical_count, TOO_SHORT);
    if (ifindex - 1 > IFINDEX_MAX - 1)
        return drop(&physical_count, BAD_IFINDEX);
    if (bpf_xdp_adjust_head(ctx, -4))
        return drop(&physical_count, NO_HEADROOM);
    void *data = (void *)(long)ctx->data;
    if (data + 18 > (void *)(long)ctx->data_end)
        return drop(&physical_count, TOO_SHORT);
    __u64 low = *(__u64 *)(data + 4);
    __u32 high = *(__u32 *)(data + 12);
    *(__u64 *)data = low;
    *(__u32 *)(data + 8) = high;
    *(__u16 *)(data + 12) = bpf_htons(TYPE_VLAN);
    *(__u16 *)(data + 14) = bpf_htons(ifindex);
    int action = bpf_redirect_map(&router_iface, 0, XDP_ABORTED);
    return action == XDP_REDIRECT ? action : drop(&physical_count, NO_ROUTER);
}

SEC("xdp/router")
int router(struct xdp_md *ctx) {
    count(&router_count, RECEIVED);
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    if (data + 14 > end)
        return drop(&router_count, TOO_SHORT);
    __u16 type = *(__u16 *)(data + 12);
    if (type != bpf_htons(TYPE_VLAN) && type != bpf_htons(TYPE_SERVICE_VLAN))
        return drop(&router_count, UNTAGGED);
    if (data + 18 > end)
        return drop(&router_count, TOO_SHORT);
    __u32 id = bpf_ntohs(*(__u16 *)(data + 14)) & IFINDEX_MAX;
    if (id == 0)
        return drop(&router_count, NO_ID);
    __u32 high = *(__u32 *)(data + 8);
    __u64 low = *(__u64 *)data;
    *(__u32 *)(data + 12) = high;
    *(__u64 *)(data + 4) = low;
    if (bpf_xdp_adjust_head(ctx, 4))
        return drop(&router_count, TOO_SHORT);
    int action = bpf_redirect_map(&ports, id, XDP_ABORTED);
    return action == XDP_REDIRECT ? action : drop(&router_count, UNKNOWN_PORT);
}
