#include "support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/un.h>

#include "daemon/media/address.h"

static const char *kind_of(const char *text)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    const bool six = strchr(text, ':');
    assert_int_equal(six ? inet_pton(AF_INET6, text, &in6.sin6_addr) : inet_pton(AF_INET, text, &in4.sin_addr), 1);
    const struct sockaddr *a = six ? (const struct sockaddr *)&in6 : (const struct sockaddr *)&in4;
    const size_t size = six ? sizeof in6 : sizeof in4;
    return address_not_public(a, size);
}

// The first and the last of each range, and the public ones beside them.
static const struct {
    const char *address, *kind; // NULL: public
} table[] = {
    {"0.0.0.0", "of this network"}, {"0.255.255.255", "of this network"}, {"1.0.0.0", NULL},
    {"9.255.255.255", NULL}, {"10.0.0.0", "private"}, {"10.255.255.255", "private"}, {"11.0.0.0", NULL},
    {"100.63.255.255", NULL}, {"100.64.0.0", "shared"}, {"100.100.100.200", "shared"}, {"100.127.255.255", "shared"},
    {"100.128.0.0", NULL}, {"126.255.255.255", NULL}, {"127.0.0.1", "loopback"}, {"127.255.255.255", "loopback"},
    {"128.0.0.0", NULL}, {"168.63.129.15", NULL}, {"168.63.129.16", "metadata"}, {"168.63.129.17", NULL},
    {"169.253.255.255", NULL}, {"169.254.0.0", "link-local"}, {"169.254.169.254", "link-local"},
    {"169.254.255.255", "link-local"}, {"169.255.0.0", NULL}, {"172.15.255.255", NULL}, {"172.16.0.0", "private"},
    {"172.31.255.255", "private"}, {"172.32.0.0", NULL}, {"191.255.255.255", NULL}, {"192.0.0.0", "reserved"},
    {"192.0.0.192", "reserved"}, {"192.0.1.0", NULL}, {"192.0.2.1", "documentation"}, {"192.0.3.0", NULL},
    {"192.52.193.1", "multicast"}, {"192.88.99.1", "6to4"}, {"192.88.100.0", NULL}, {"192.167.255.255", NULL},
    {"192.168.0.0", "private"}, {"192.168.255.255", "private"}, {"192.169.0.0", NULL}, {"198.17.255.255", NULL},
    {"198.18.0.0", "benchmarks"}, {"198.19.255.255", "benchmarks"}, {"198.20.0.0", NULL},
    {"198.51.100.7", "documentation"}, {"203.0.113.255", "documentation"}, {"203.0.114.0", NULL},
    {"223.255.255.255", NULL}, {"224.0.0.1", "multicast"}, {"239.255.255.255", "multicast"}, {"240.0.0.0", "reserved"},
    {"255.255.255.254", "reserved"}, {"255.255.255.255", "broadcast"}, {"8.8.8.8", NULL},
    {"::", "unspecified"}, {"::1", "loopback"}, {"::2", "reserved"}, {"::127.0.0.1", "reserved"}, {"::8.8.8.8", "reserved"},
    {"::ffff:127.0.0.1", "loopback"}, {"::ffff:10.1.2.3", "private"}, {"::ffff:169.254.169.254", "link-local"},
    {"::ffff:8.8.8.8", NULL}, {"64:ff9b::7f00:1", "loopback"}, {"64:ff9b::a9fe:a9fe", "link-local"},
    {"64:ff9b::808:808", NULL}, {"64:ff9b:0:0:0:1:808:808", "reserved"}, {"64:ff9b:1::808:808", "local NAT64"},
    {"64:ff9b:2::1", "reserved"}, {"100::1", "reserved"}, {"1fff:ffff::", "reserved"}, {"2000::1", NULL},
    {"2001::1", "Teredo"}, {"2001:0:7f00:1::", "Teredo"}, {"2001:1ff:ffff::", "Teredo"}, {"2001:200::1", NULL},
    {"2001:4860:4860::8888", NULL}, {"2001:db7:ffff::", NULL}, {"2001:db8::1", "documentation"}, {"2001:db9::", NULL},
    {"2002:7f00:1::1", "6to4"}, {"2002:808:808::1", "6to4"}, {"2003::1", NULL}, {"2606:4700::1111", NULL},
    {"3ffe:ffff::", NULL}, {"3fff::1", "documentation"}, {"3fff:fff:ffff::", "documentation"}, {"3fff:1000::", NULL},
    {"4000::1", "reserved"}, {"5f00::1", "reserved"}, {"fbff::1", "reserved"}, {"fc00::1", "private"},
    {"fd00:ec2::254", "private"}, {"fdff::1", "private"}, {"fe00::1", "reserved"}, {"fe80::1", "link-local"},
    {"febf::1", "link-local"}, {"fec0::1", "site-local"}, {"ff02::1", "multicast"}, {"ff0e::1", "multicast"},
};

static void every_range_ends_where_it_ends(void **state)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *kind = kind_of(table[i].address);
        if (!kind != !table[i].kind || (kind && !strstr(kind, table[i].kind))) {
            fail_msg("%s is %s, expected %s", table[i].address, kind ? kind : "public",
                     table[i].kind ? table[i].kind : "public");
        }
    }
}

static void other_families_are_not_public(void **state)
{
    const struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/run/docker.sock"};
    const struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = 0x08080808};
    assert_string_equal(address_not_public((const struct sockaddr *)&local, sizeof local), "not of the internet");
    assert_null(address_not_public((const struct sockaddr *)&in4, sizeof in4));
    assert_non_null(address_not_public((const struct sockaddr *)&in4, sizeof in4 - 1)); // cut short
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_range_ends_where_it_ends),
        cmocka_unit_test(other_families_are_not_public),
    };
    return cmocka_run_group_tests_name("daemon/media/address", tests, NULL, NULL);
}
