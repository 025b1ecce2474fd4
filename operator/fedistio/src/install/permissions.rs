//! What the operator may do, on its host and in the members.
//!
//! One table. The host's roles in `fedistio manifests` and in the OLM bundle, and the member's role that `fedistio join` makes, all come
//! from it.

use fedistio_crds::{GROUP, TYPES_GROUP, all_crds, builtin_types};
use k8s_openapi::api::rbac::v1::PolicyRule;
use std::collections::{BTreeMap, BTreeSet};

/// Verbs of Kubernetes RBAC that the table needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Verb {
    /// Read one object by name.
    Get,
    /// Read all objects.
    List,
    /// Follow changes.
    Watch,
    /// Make an object; a server-side apply of a missing object needs it too.
    Create,
    /// Replace an object.
    Update,
    /// Change an object; every server-side apply needs it.
    Patch,
    /// Remove an object.
    Delete,
    /// Bind to a role that holds more than one has oneself.
    Bind,
    /// Write a role that holds more than one has oneself.
    Escalate,
}

/// Where a permission holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the host, in every namespace.
    Host,
    /// On the host, in the operator's namespace only.
    HostNamespace,
    /// In every member, in every namespace.
    Member,
}

/// What a permission is for.
#[derive(Clone, Debug)]
enum Target {
    /// Objects of these plurals in one API group.
    Resources { group: String, plurals: Vec<String> },
    /// Paths of the API server that are not objects.
    Paths(&'static [&'static str]),
}

/// One line of the table.
#[derive(Clone, Debug)]
struct Permission {
    place: Place,
    target: Target,
    verbs: &'static [Verb],
}

use Verb::{Bind, Create, Delete, Escalate, Get, List, Patch, Update, Watch};

const READ: &[Verb] = &[Get, List, Watch];
/// Everything that keeping copies by server-side apply takes: no `update`.
const KEEP: &[Verb] = &[Get, List, Watch, Create, Patch, Delete];
/// The same for roles. The charts' roles give istiod permissions that the operator does not have itself, such as approving
/// certificates; Kubernetes lets one write and bind such a role only with these two verbs.
const KEEP_ROLES: &[Verb] = &[Get, List, Watch, Create, Patch, Delete, Bind, Escalate];
const OWN: &[Verb] = &[Get, List, Watch, Create, Update, Patch, Delete];
const WRITE_STATUS: &[Verb] = &[Get, Update, Patch];
/// Blocking deletion by an owner reference needs `update` of the owner's finalizers.
const WRITE_FINALIZERS: &[Verb] = &[Update, Patch];
const RECORD: &[Verb] = &[Create, Patch];

/// What the Istio charts contain besides the built-in federated types: group, plurals, verbs.
const CHART_KINDS: &[(&str, &[&str], &[Verb])] = &[
    ("", &["endpoints", "resourcequotas"], KEEP),
    ("admissionregistration.k8s.io", &["mutatingwebhookconfigurations"], KEEP),
    ("admissionregistration.k8s.io", &["validatingadmissionpolicies"], KEEP),
    ("admissionregistration.k8s.io", &["validatingadmissionpolicybindings"], KEEP),
    ("admissionregistration.k8s.io", &["validatingwebhookconfigurations"], KEEP),
    ("apiextensions.k8s.io", &["customresourcedefinitions"], KEEP),
    ("apps", &["daemonsets"], KEEP),
    ("autoscaling", &["horizontalpodautoscalers"], KEEP),
    ("discovery.k8s.io", &["endpointslices"], KEEP),
    // The CNI chart's, on OpenShift.
    ("k8s.cni.cncf.io", &["network-attachment-definitions"], KEEP),
    ("networking.k8s.io", &["networkpolicies"], KEEP),
    ("policy", &["poddisruptionbudgets"], KEEP),
    ("rbac.authorization.k8s.io", &["clusterroles", "roles"], KEEP_ROLES),
    ("rbac.authorization.k8s.io", &["clusterrolebindings", "rolebindings"], KEEP),
];

fn resources(place: Place, group: &str, plurals: &[&str], verbs: &'static [Verb]) -> Permission {
    let plurals = plurals.iter().map(|plural| (*plural).to_owned()).collect();
    Permission { place, target: Target::Resources { group: group.to_owned(), plurals }, verbs }
}

/// The plurals of the hand-written kinds, each with `suffix` (a subresource) appended.
fn own_plurals(suffix: &str) -> Vec<String> {
    let crds = all_crds();
    let own = crds.iter().filter(|crd| crd.spec.group == GROUP);
    own.map(|crd| format!("{}{suffix}", crd.spec.names.plural)).collect()
}

fn host(table: &mut Vec<Permission>) {
    for (suffix, verbs) in [("", OWN), ("/status", WRITE_STATUS), ("/finalizers", WRITE_FINALIZERS)] {
        let target = Target::Resources { group: GROUP.to_owned(), plurals: own_plurals(suffix) };
        table.push(Permission { place: Place::Host, target, verbs });
    }
    // Not by name: types that users add later are in this group as well.
    table.push(resources(Place::Host, TYPES_GROUP, &["*"], OWN));
    table.push(resources(Place::Host, TYPES_GROUP, &["*/status"], WRITE_STATUS));
    table.push(resources(Place::Host, TYPES_GROUP, &["*/finalizers"], WRITE_FINALIZERS));
    table.push(resources(Place::Host, "apiextensions.k8s.io", &["customresourcedefinitions"], READ));
    table.push(resources(Place::Host, "", &["events"], RECORD));
    table.push(resources(Place::Host, "events.k8s.io", &["events"], RECORD));

    // By name only: whoever may list or watch secrets may read all of them.
    table.push(resources(Place::HostNamespace, "", &["secrets"], &[Get]));
    let lease: &[Verb] = &[Get, Create, Update, Patch];
    table.push(resources(Place::HostNamespace, "coordination.k8s.io", &["leases"], lease));
    let revisions: &[Verb] = &[Get, List, Create, Delete];
    table.push(resources(Place::HostNamespace, "apps", &["controllerrevisions"], revisions));
}

fn member(table: &mut Vec<Permission>) {
    let mut by_group: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for builtin in builtin_types() {
        let target = builtin.config().spec.target;
        by_group.entry(target.group).or_default().insert(target.plural);
    }
    for (group, plurals) in by_group {
        let target = Target::Resources { group, plurals: plurals.into_iter().collect() };
        table.push(Permission { place: Place::Member, target, verbs: KEEP });
    }
    for (group, plurals, verbs) in CHART_KINDS {
        table.push(resources(Place::Member, group, plurals, verbs));
    }
    // Proxies are counted from the pods' annotations; region and zones come from the nodes.
    table.push(resources(Place::Member, "", &["pods"], READ));
    table.push(resources(Place::Member, "", &["nodes"], &[Get, List]));
    // Restarting a workload patches its pod template.
    table.push(resources(Place::Member, "apps", &["replicasets", "statefulsets"], &[Get, List, Patch]));
    let paths = Target::Paths(&["/healthz", "/livez", "/readyz", "/version"]);
    table.push(Permission { place: Place::Member, target: paths, verbs: &[Get] });
}

/// The RBAC rules that hold in `place`, in a stable order.
pub(crate) fn rules(place: Place) -> Vec<PolicyRule> {
    let mut table = Vec::new();
    match place {
        Place::Host | Place::HostNamespace => host(&mut table),
        Place::Member => member(&mut table),
    }
    table.into_iter().filter(|permission| permission.place == place).map(rule).collect()
}

fn rule(permission: Permission) -> PolicyRule {
    let verbs = permission.verbs.iter().map(ToString::to_string).collect();
    match permission.target {
        Target::Resources { group, plurals } => PolicyRule {
            api_groups: Some(vec![group]),
            resources: Some(plurals),
            verbs,
            ..PolicyRule::default()
        },
        Target::Paths(paths) => PolicyRule {
            non_resource_urls: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
            verbs,
            ..PolicyRule::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verbs_for(place: Place, group: &str, resource: &str) -> BTreeSet<String> {
        verbs_in(&rules(place), group, resource)
    }

    fn verbs_in(rules: &[PolicyRule], group: &str, resource: &str) -> BTreeSet<String> {
        let has = |list: &Option<Vec<String>>, wanted: &str| {
            list.as_ref().is_some_and(|list| list.iter().any(|entry| entry == wanted || entry == "*"))
        };
        rules
            .iter()
            .filter(|rule| has(&rule.api_groups, group) && has(&rule.resources, resource))
            .flat_map(|rule| rule.verbs.clone())
            .collect()
    }

    fn set(verbs: &[&str]) -> BTreeSet<String> {
        verbs.iter().map(|verb| (*verb).to_owned()).collect()
    }

    #[test]
    fn a_member_lets_the_operator_keep_copies_of_every_builtin_type() {
        for builtin in builtin_types() {
            let target = builtin.config().spec.target;
            let verbs = verbs_for(Place::Member, &target.group, &target.plural);
            assert_eq!(
                verbs,
                set(&["get", "list", "watch", "create", "patch", "delete"]),
                "{}",
                target.qualified_name()
            );
        }
    }

    #[test]
    fn a_member_lets_the_operator_write_the_charts_roles_but_not_bind_others() {
        for plural in ["roles", "clusterroles"] {
            let verbs = verbs_for(Place::Member, "rbac.authorization.k8s.io", plural);
            assert!(verbs.contains("bind") && verbs.contains("escalate"), "{plural}");
        }
        for rule in rules(Place::Member) {
            let powerful = rule.verbs.iter().any(|verb| verb == "escalate" || verb == "bind");
            let only_roles =
                rule.resources.as_deref() == Some(&["clusterroles".to_owned(), "roles".to_owned()]);
            assert!(!powerful || only_roles, "{rule:?}");
        }
    }

    #[test]
    fn a_member_gives_no_wildcards_and_no_way_into_pods() {
        for rule in rules(Place::Member) {
            let lists = [&rule.api_groups, &rule.resources, &rule.non_resource_urls];
            assert!(lists.into_iter().flatten().flatten().all(|entry| !entry.contains('*')), "{rule:?}");
            assert!(rule.verbs.iter().all(|verb| verb != "*" && verb != "update" && verb != "impersonate"));
        }
        assert_eq!(verbs_for(Place::Member, "", "pods"), set(&["get", "list", "watch"]));
        for subresource in ["pods/exec", "pods/portforward", "serviceaccounts/token", "nodes/proxy"] {
            assert!(verbs_for(Place::Member, "", subresource).is_empty(), "{subresource}");
        }
    }

    #[test]
    fn the_host_role_covers_every_hand_written_kind_and_its_status() {
        let host = rules(Place::Host);
        for crd in all_crds().into_iter().filter(|crd| crd.spec.group == GROUP) {
            let plural = crd.spec.names.plural;
            assert!(verbs_in(&host, GROUP, &plural).is_superset(&set(&["watch", "patch", "delete"])));
            assert!(verbs_in(&host, GROUP, &format!("{plural}/status")).contains("patch"));
            assert!(verbs_in(&host, GROUP, &format!("{plural}/finalizers")).contains("update"));
        }
    }

    #[test]
    fn secrets_of_the_host_are_read_by_name_in_one_namespace() {
        assert!(verbs_for(Place::Host, "", "secrets").is_empty());
        assert_eq!(verbs_for(Place::HostNamespace, "", "secrets"), set(&["get"]));
    }

    #[test]
    fn no_resource_is_listed_twice_in_one_place() {
        for place in [Place::Host, Place::HostNamespace, Place::Member] {
            let mut seen = BTreeSet::new();
            for rule in rules(place) {
                let group = rule.api_groups.unwrap_or_default();
                for resource in rule.resources.unwrap_or_default() {
                    assert!(seen.insert((group.clone(), resource.clone())), "{place:?} {group:?} {resource}");
                }
            }
        }
    }
}
