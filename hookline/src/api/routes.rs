//! What there is below /api/v5, each with what the document of the API says of it: one line, and refusals that do not follow from the route itself.

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with, put_with};

use super::openapi::{refuses, says};
use super::{
    Shared, access, actions, audit, banned, configs, connectors, data, dead_letters, drops, history, listings, login, monitor, openapi,
    prometheus, publish, reload, rule_metrics, rules, sources, store, traces,
};

/// A change of the configuration that was not made: another version, another one of that name, or no file.
const CONFLICT: &[u16] = &[409];

pub(super) fn routes() -> ApiRouter<Shared> {
    ApiRouter::new()
        .nest("/api/v5", node().merge(clients()).merge(messages()).merge(integration()).merge(configuration()).merge(people()))
        .api_route("/metrics", get_with(prometheus::get, says("The same as /prometheus/stats, where Prometheus looks for it")))
}

fn node() -> ApiRouter<Shared> {
    ApiRouter::new()
        .api_route(openapi::PATH, get_with(openapi::get, says("This document")))
        .api_route("/status", get_with(monitor::get_status, says("For probes")))
        .api_route("/nodes", get_with(monitor::get_nodes, says("The node")))
        .api_route("/stats", get_with(monitor::get_stats, says("What there is now, and what there was at most")))
        .api_route("/metrics", get_with(monitor::get_metrics, says("What was counted since the start")))
        .api_route("/prometheus/stats", get_with(prometheus::get, says("Counters, gauges and alarms for Prometheus")))
        .api_route("/monitor_current", get_with(history::get_current, says("What there is, and rates")))
        .api_route("/monitor", get_with(history::get, says("What there was, and rates: of the last day, or of the latest seconds")))
        .api_route("/alarms", get_with(monitor::get_alarms, says("Alarms that are active, or those that are over")))
        .api_route("/listeners", get_with(listings::get_listeners, says("Listeners with their connections")))
        .api_route(
            "/trace",
            get_with(traces::get_all, says("Traces"))
                .post_with(traces::post, refuses("Writes down what happens to a client, on a topic or from an address", &[409]))
                .delete_with(traces::delete_all, says("Takes all traces away with their logs")),
        )
        .api_route("/trace/{name}", delete_with(traces::delete, says("Takes one away with its log")))
        .api_route("/trace/{name}/stop", put_with(traces::put_stop, says("Ends one; its log stays")))
        .api_route("/trace/{name}/log", get_with(traces::get_log, says("A part of its log")))
        .api_route("/trace/{name}/download", get_with(traces::get_download, says("Its whole log: a JSON object in each line")))
        .api_route("/drops", get_with(drops::get, says("Dropped messages that were recorded: why, and whom they concern")))
        .api_route("/store", get_with(store::stats, says("The store")))
        .api_route("/store/queues", get_with(store::queues, says("Queues of sessions and actions with their accounts")))
        .api_route("/store/check", post_with(store::check, refuses("Reads the whole store, and tells what does not fit", &[409])))
        .api_route("/store/compact", post_with(store::compact, refuses("Gives back space of the disk", &[409])))
        .api_route("/store/backup", post_with(store::backup, refuses("Makes a backup in a folder of the broker's machine", &[409])))
}

fn clients() -> ApiRouter<Shared> {
    ApiRouter::new()
        .api_route("/clients", get_with(monitor::get_clients, says("Sessions, with or without a connection")))
        .api_route(
            "/clients/{clientid}",
            get_with(monitor::get_client, says("One session"))
                .delete_with(monitor::delete_client, says("Ends a connection with its session")),
        )
        .api_route("/clients/{clientid}/subscriptions", get_with(monitor::get_subscriptions, says("Its subscriptions")))
        .api_route("/clients/{clientid}/mqueue_messages", get_with(listings::get_waiting, says("What waits for it")))
        .api_route("/clients/{clientid}/inflight_messages", get_with(listings::get_inflight, says("What is on its way to it")))
        .api_route("/subscriptions", get_with(listings::get_subscriptions, says("Subscriptions of all clients")))
        .api_route("/topics", get_with(listings::get_topics, says("Filters that somebody subscribes to")))
        .api_route(
            "/slow_subscriptions",
            get_with(listings::get_slow, says("The slowest deliveries")).delete_with(listings::delete_slow, says("Forgets them")),
        )
        .api_route(
            "/banned",
            get_with(banned::get_all, says("Bans"))
                .post_with(banned::post, refuses("Bans a client, a username, an address or a network", &[409]))
                .delete_with(banned::delete_all, says("Ends all bans that do not stand in the configuration")),
        )
        .api_route("/banned/{as}/{*who}", delete_with(banned::delete, refuses("Ends a ban", &[409])))
}

fn messages() -> ApiRouter<Shared> {
    ApiRouter::new()
        .api_route("/publish", post_with(publish::post, refuses("Publishes a message", &[409])))
        .api_route("/publish/bulk", post_with(publish::post_bulk, refuses("Publishes messages, one after the other", &[409])))
        .api_route(
            "/mqtt/retainer/messages",
            get_with(listings::get_retained, says("Retained messages, without payloads"))
                .delete_with(listings::delete_retained, says("Takes all retained messages away")),
        )
        .api_route(
            "/mqtt/retainer/message/{*topic}",
            get_with(listings::get_retained_message, says("The retained message of a topic"))
                .delete_with(listings::delete_retained_message, says("Takes it away")),
        )
        .api_route("/mqtt/delayed/messages", get_with(listings::get_delayed, says("Messages that wait for their time")))
        .api_route(
            "/mqtt/delayed/messages/{msgid}",
            get_with(listings::get_delayed_message, says("One of them with its payload"))
                .delete_with(listings::delete_delayed_message, says("Takes it back")),
        )
}

fn integration() -> ApiRouter<Shared> {
    let letters = "/actions/{action}/dead_letters";
    ApiRouter::new()
        .api_route("/rule_test", post_with(rules::post_test, refuses("Tries a statement on one event", &[412])))
        .api_route("/rule_backtest", post_with(rules::post_backtest, says("Tries a statement on what was recorded")))
        .api_route("/rule_events", get_with(rules::get_events, says("Events that FROM can name")))
        .api_route(
            "/rules",
            get_with(rule_metrics::get_all, says("Rules with counters")).post_with(configs::post_rule, refuses("Adds a rule", CONFLICT)),
        )
        .api_route(
            "/rules/{id}",
            get_with(rule_metrics::get_one, says("One rule"))
                .put_with(configs::put_rule, refuses("Takes the place of a rule", CONFLICT))
                .delete_with(configs::delete_rule, refuses("Takes a rule away", CONFLICT)),
        )
        .api_route("/rules/{id}/metrics", get_with(rule_metrics::get_metrics, says("Its counters and last errors")))
        .api_route(
            "/actions",
            get_with(actions::get_all, says("Actions with state and account"))
                .post_with(configs::post_action, refuses("Adds an action", CONFLICT)),
        )
        .api_route(
            "/actions/{action}",
            get_with(actions::get_one, says("One action"))
                .put_with(configs::put_action, refuses("Takes the place of an action", CONFLICT))
                .delete_with(configs::delete_action, refuses("Takes an action away", CONFLICT)),
        )
        .api_route("/actions/{action}/pause", post_with(actions::post_pause, says("Lets its records wait")))
        .api_route("/actions/{action}/resume", post_with(actions::post_resume, says("Lets it go on")))
        .api_route(
            letters,
            get_with(dead_letters::get_all, says("Its dead letters"))
                .delete_with(dead_letters::delete_all, refuses("Takes them all away", &[409])),
        )
        .api_route(&format!("{letters}/replay"), post_with(dead_letters::post_replay_all, refuses("Delivers them all again", &[409])))
        .api_route(
            &format!("{letters}/{{sequence}}"),
            get_with(dead_letters::get_one, says("One dead letter"))
                .patch_with(dead_letters::patch_one, refuses("Changes its row by a merge patch (RFC 7396)", &[409]))
                .delete_with(dead_letters::delete_one, refuses("Takes it away", &[409])),
        )
        .api_route(&format!("{letters}/{{sequence}}/replay"), post_with(dead_letters::post_replay, refuses("Delivers it again", &[409])))
        .api_route(
            "/sources",
            get_with(sources::get_all, says("What comes in")).post_with(configs::post_source, refuses("Adds a source", CONFLICT)),
        )
        .api_route(
            "/sources/{name}",
            get_with(sources::get_one, says("One source"))
                .put_with(configs::put_source, refuses("Takes the place of a source", CONFLICT))
                .delete_with(configs::delete_source, refuses("Takes a source away", CONFLICT)),
        )
        .api_route(
            "/connectors",
            get_with(connectors::get_all, says("Connectors, without settings"))
                .post_with(configs::post_connector, refuses("Adds a connector", CONFLICT)),
        )
        .api_route(
            "/connectors/{name}",
            get_with(connectors::get_one, says("One connector"))
                .put_with(configs::put_connector, refuses("Takes the place of a connector", CONFLICT))
                .delete_with(configs::delete_connector, refuses("Takes a connector away", CONFLICT)),
        )
}

fn configuration() -> ApiRouter<Shared> {
    ApiRouter::new()
        .api_route(
            "/configs",
            get_with(configs::get, refuses("The file of the configuration with its version", CONFLICT))
                .put_with(configs::put, refuses("Another file in its place", CONFLICT)),
        )
        .api_route("/configs/reload", post_with(reload::post, refuses("Reads the file again", CONFLICT)))
        .api_route("/configs/history", get_with(configs::get_history, refuses("Its versions", CONFLICT)))
        .api_route("/configs/history/{version}", get_with(configs::get_version, refuses("One version", CONFLICT)))
        .api_route("/configs/diff", get_with(configs::get_diff, refuses("How two versions differ", &[404, 409])))
        .api_route("/configs/rollback", post_with(configs::post_rollback, refuses("Makes a version the configuration again", &[404, 409])))
        .api_route("/data/export", post_with(data::post_export, refuses("Puts what was set up into a file", &[409])))
        .api_route("/data/import", post_with(data::post_import, refuses("Takes over what is in a file", &[404, 409])))
        .api_route(
            "/data/files",
            get_with(data::get_all, says("Files of exports")).post_with(data::post, refuses("Brings a file of an export here", &[409])),
        )
        .api_route("/data/files/{filename}", get_with(data::get, says("A whole file")).delete_with(data::delete, says("Takes one away")))
        .api_route("/audit", get_with(audit::get, says("What was done, the newest first")))
}

fn people() -> ApiRouter<Shared> {
    let permissions = format!("{}/{{kind}}", access::RULES);
    ApiRouter::new()
        .api_route("/login", post_with(login::post_login, says("A token for a name and password")))
        .api_route(
            "/users",
            get_with(login::get_people, says("Who may use the API"))
                .post_with(login::post_person, says("Adds somebody, or sets another password and role")),
        )
        .api_route("/users/{username}", delete_with(login::delete_person, says("Removes somebody")))
        .api_route("/access", get_with(access::get_stats, says("What backends of logins and permissions were asked")))
        .api_route("/authorization/cache", delete_with(access::delete_cache, says("Has permissions of all clients asked for anew")))
        .api_route(
            access::USERS,
            get_with(access::get_users, says("Users in the store"))
                .post_with(access::post_user, says("Adds one, or sets another password")),
        )
        .api_route(&format!("{}/{{user}}", access::USERS), delete_with(access::delete_user, says("Removes one")))
        .api_route(
            &permissions,
            get_with(access::get_rules, says("Permissions of all clients (kind `all`)"))
                .put_with(access::put_rules, says("Sets them"))
                .delete_with(access::delete_rules, says("Takes them away")),
        )
        .api_route(
            &format!("{permissions}/{{name}}"),
            get_with(access::get_rules, says("Permissions of a user (kind `users`) or client (`clients`)"))
                .put_with(access::put_rules, says("Sets them"))
                .delete_with(access::delete_rules, says("Takes them away")),
        )
}
