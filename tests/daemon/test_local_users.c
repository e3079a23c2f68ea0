// Who may ask over a local socket: which users, and what each of them may.
#include "running.h"

#include <grp.h>
#include <zmq.h>

#define HELLO                                                                                      \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, "             \
    "\"max_tokens\": 4, \"enable_thinking\": false}"

// A client that names itself could be handed what another's broken connection was owed.
static void a_routing_id_of_ones_own_is_refused(void **state)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", NULL};
    running r;
    daemon_start(&r, args);
    sight_client_close(&(sight_client *){daemon_connect(&r)});
    void *context = zmq_ctx_new(), *dealer = zmq_socket(context, ZMQ_DEALER);
    const int wait_ms = 30000, none = 0;
    zmq_setsockopt(dealer, ZMQ_ROUTING_ID, "me", 2);
    zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    zmq_setsockopt(dealer, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal(zmq_connect(dealer, r.endpoint), 0);
    zmq_send(dealer, "SIGHT1", 6, ZMQ_SNDMORE);
    zmq_send(dealer, "a", 1, ZMQ_SNDMORE);
    zmq_send(dealer, "status", 6, ZMQ_SNDMORE);
    zmq_send(dealer, "{}", 2, 0);
    char got[4][512] = {{0}};
    for (int i = 0; i < 4; i++) assert_true(zmq_recv(dealer, got[i], 511, 0) > 0);
    assert_string_equal(got[2], "error");
    assert_non_null(strstr(got[3], "routing id"));
    zmq_close(dealer);
    zmq_ctx_term(context);
    daemon_stop(&r);
}

static void only_listed_users_are_served(void **state)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", "--allow-uid", "54321", NULL};
    running r;
    sight_client *c;
    daemon_start(&r, args);
    char says[80];
    snprintf(says, sizeof says, "uid %lu may not ask this server", (unsigned long)geteuid());
    assert_fails(sight_client_connect(&c, r.endpoint, 60000), SIGHT_E_PERMISSION, says);
    daemon_stop(&r);
    char own[32];
    snprintf(own, sizeof own, "%lu", (unsigned long)geteuid());
    const char *const both[] = {"--model", GOLDEN "/model", "--threads", "1", "--allow-uid", "54321", "--allow-uid", own, NULL};
    daemon_start(&r, both);
    c = daemon_connect(&r);
    sight_event_kind kind;
    json_decref(ask_to_end(c, HELLO, &kind));
    assert_int_equal(kind, SIGHT_DONE);
    sight_client_close(&c);
    daemon_stop(&r);
}

// Another user than the daemon's, where the test may become one.
static void other_users_have_the_rights_that_are_set(void **state)
{
    if (geteuid() != 0) {
        print_message("skipped: only root can ask as another user\n");
        skip();
    }
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", "--socket-mode", "0666", "--uid-rights", "plan", NULL};
    running r;
    daemon_start(&r, args);
    sight_client_close(&(sight_client *){daemon_connect(&r)});
    assert_int_equal(chmod(r.folder, 0711), 0); // of the test's own
    const pid_t child = fork();
    if (child == 0) {
        sight_client *c;
        char *reply;
        if (setgroups(0, NULL) || setgid(54321) || setuid(54321)) _exit(77); // a sandbox without these
        if (sight_client_connect(&c, r.endpoint, 20000)) _exit(2);
        if (sight_client_call(c, &reply, SIGHT_PLAN, HELLO, NULL, 0, 20000)) _exit(3);
        if (sight_client_call(c, &reply, SIGHT_ASK, HELLO, NULL, 0, 20000) != SIGHT_E_PERMISSION) _exit(4);
        _exit(strstr(sight_error(), "uid 54321 may not ask: it lacks the right 'ask'") ? 0 : 5);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != 77) assert_int_equal(WEXITSTATUS(status), 0);
    struct stat st;
    assert_int_equal(stat(endpoint_file(&r), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666);
    daemon_stop(&r);
}

static void the_socket_is_given_to_its_group(void **state)
{
    char group[32];
    snprintf(group, sizeof group, "%lu", (unsigned long)getegid());
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", "--socket-mode", "0660", "--socket-group", group, NULL};
    running r;
    struct stat st;
    daemon_start(&r, args);
    sight_client_close(&(sight_client *){daemon_connect(&r)});
    assert_int_equal(stat(endpoint_file(&r), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    assert_int_equal(st.st_gid, getegid());
    char folder[200];
    snprintf(folder, sizeof folder, "%s/run", r.folder); // which the daemon made
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0711);
    daemon_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_routing_id_of_ones_own_is_refused),
        cmocka_unit_test(only_listed_users_are_served),
        cmocka_unit_test(other_users_have_the_rights_that_are_set),
        cmocka_unit_test(the_socket_is_given_to_its_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
