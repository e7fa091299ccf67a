//! What a kubelet does with a pod of a manifest, as far as our manifests go: the sandbox, the init containers one after the
//! other, the main container; with exactly the mounts, user, capabilities and limits that the manifest names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::containerd::Containerd;
use crate::cri::{Container, Mount, Pod, Sandbox};
use crate::lab::eventually;

const PATIENCE: Duration = Duration::from_mins(1);

/// The objects of a file of manifests.
pub(crate) fn objects(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A DaemonSet and the ConfigMaps that it names.
#[derive(Debug, Clone)]
pub(crate) struct DaemonSet {
    pub(crate) name: String,
    /// Of its pods.
    pub(crate) labels: Value,
    pub(crate) spec: Value,
    config: BTreeMap<String, Value>,
}

impl DaemonSet {
    pub(crate) fn of(objects: &[Value]) -> Self {
        let kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind).cloned();
        let config = kind("ConfigMap").map(|map| (text(&map["metadata"]["name"]), map["data"].clone()));
        let set = kind("DaemonSet").next().expect("a DaemonSet");
        let template = &set["spec"]["template"];
        Self {
            name: text(&set["metadata"]["name"]),
            labels: template["metadata"]["labels"].clone(),
            spec: template["spec"].clone(),
            config: config.collect(),
        }
    }

    /// The same with another image in all containers.
    pub(crate) fn with_image(&self, image: &str) -> Self {
        let mut changed = self.clone();
        for containers in ["initContainers", "containers"] {
            for container in changed.spec[containers].as_array_mut().expect("containers") {
                container["image"] = image.into();
            }
        }
        changed
    }

    /// The same with another value in its ConfigMap.
    pub(crate) fn with_setting(&self, key: &str, value: &str) -> Self {
        let mut changed = self.clone();
        for map in changed.config.values_mut() {
            map[key] = value.into();
        }
        changed
    }

    /// As kustomize does it with a file of replacements (JSON Patch).
    pub(crate) fn patched(&self, patches: &[Value]) -> Self {
        let mut changed = self.clone();
        for patch in patches.iter().flat_map(list) {
            assert_eq!(patch["op"], "replace", "{patch}");
            let path = text(&patch["path"]);
            let below = path.strip_prefix("/spec/template/spec").expect("a path in the pod");
            *changed.spec.pointer_mut(below).unwrap_or_else(|| panic!("{path}")) = patch["value"].clone();
        }
        changed
    }

    fn container(&self, container: &Value) -> Container {
        let words = |value: &Value| list(value).iter().map(text).collect::<Vec<_>>();
        let security = &container["securityContext"];
        assert_eq!(security["privileged"], false, "{container}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{container}");
        let memory = text(&container["resources"]["limits"]["memory"]);
        let memory =
            memory.strip_suffix("Mi").and_then(|number| number.parse::<u64>().ok()).expect("a limit in Mi");
        Container {
            name: text(&container["name"]),
            image: text(&container["image"]),
            command: words(&container["command"]),
            arguments: words(&container["args"]),
            environment: self.environment(container),
            mounts: list(&container["volumeMounts"]).iter().map(|mount| self.mount(mount)).collect(),
            add_capabilities: words(&security["capabilities"]["add"]),
            drop_capabilities: words(&security["capabilities"]["drop"]),
            read_only: security["readOnlyRootFilesystem"] == true,
            user: security["runAsUser"].as_u64(),
            memory: memory << 20,
        }
    }

    fn environment(&self, container: &Value) -> Vec<(String, String)> {
        let maps = list(&container["envFrom"]).into_iter().map(|from| text(&from["configMapRef"]["name"]));
        let mut environment: Vec<(String, String)> = maps
            .flat_map(|name| {
                let map = self.config.get(&name).unwrap_or_else(|| panic!("there is no ConfigMap {name}"));
                map.as_object()
                    .expect("data")
                    .iter()
                    .map(|(key, value)| (key.clone(), text(value)))
                    .collect::<Vec<_>>()
            })
            .collect();
        environment
            .extend(list(&container["env"]).iter().map(|one| (text(&one["name"]), text(&one["value"]))));
        environment
    }

    fn mount(&self, mount: &Value) -> Mount {
        let volumes = list(&self.spec["volumes"]);
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("a volume");
        let host = text(&volume["hostPath"]["path"]);
        if volume["hostPath"]["type"] == "DirectoryOrCreate" {
            fs::create_dir_all(&host).unwrap_or_else(|e| panic!("{host}: {e}"));
        }
        let propagation = mount["mountPropagation"].as_str().unwrap_or("None");
        assert!(matches!(propagation, "None" | "HostToContainer"), "{mount}");
        Mount {
            host,
            container: text(&mount["mountPath"]),
            read_only: mount["readOnly"] == true,
            follows: propagation == "HostToContainer",
        }
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A pod of a DaemonSet on this node.
#[derive(Debug)]
pub(crate) struct Deployed {
    pod: Pod,
    sandbox: Sandbox,
    main: String,
    pub(crate) logs: BTreeMap<String, String>,
}

/// Why a pod is not ready: the init container that failed, its exit code, and what it said.
#[derive(Debug)]
pub(crate) struct NotReady(pub(crate) String);

impl Containerd {
    /// As kubelet starts it. An init container that fails leaves no pod.
    pub(crate) fn deploy(&self, set: &DaemonSet, name: &str) -> Result<Deployed, NotReady> {
        self.deploy_while(set, name, &|| true)
    }

    /// The same as long as somebody wants it: an init container may wait, and is ended like any other.
    pub(crate) fn deploy_while(
        &self,
        set: &DaemonSet,
        name: &str,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Deployed, NotReady> {
        assert_eq!(set.spec["hostNetwork"], true);
        let logs = format!("/run/logs/{name}");
        fs::create_dir_all(&logs).expect("a directory for logs");
        let pod = Pod { host_network: true, logs: logs.clone(), ..Pod::new(name) };
        let sandbox = self.run_pod(&pod);
        let log = |container: &str| fs::read_to_string(format!("{logs}/{container}.log")).unwrap_or_default();
        let mut said = BTreeMap::new();
        for container in list(&set.spec["initContainers"]) {
            let container = set.container(&container);
            let id = self
                .cri
                .run_container(&pod, &sandbox, &container)
                .unwrap_or_else(|e| panic!("{container:?}: {e}"));
            let mut code = None;
            eventually(&format!("{} ends", container.name), PATIENCE, || {
                code = self.cri.exit_code(&id).expect("its status");
                code.is_some() || !wanted()
            });
            if code.is_none() {
                // One that ends by itself meanwhile cannot be stopped any more, and a kubelet comes back.
                eventually("the init container is stopped", PATIENCE, || {
                    self.cri.stop_container(&id, 5).is_ok()
                });
            }
            said.insert(container.name.clone(), log(&container.name));
            if code != Some(0) {
                self.remove_pod(&sandbox);
                return Err(NotReady(format!(
                    "{} ended with {code:?}:\n{}",
                    container.name, said[&container.name]
                )));
            }
        }
        let containers = list(&set.spec["containers"]);
        assert_eq!(containers.len(), 1);
        let container = set.container(&containers[0]);
        let main = self.cri.run_container(&pod, &sandbox, &container);
        let main = main.unwrap_or_else(|e| panic!("{container:?}: {e}"));
        // The first process of a container is deaf to signals until it has begun.
        eventually("the main container says something", PATIENCE, || !log(&container.name).is_empty());
        Ok(Deployed { pod, sandbox, main, logs: said })
    }

    /// SIGTERM with kubelet's patience for this pod, then everything of it goes. Returns the exit code.
    pub(crate) fn undeploy(&self, deployed: &Deployed) -> u64 {
        self.cri.stop_container(&deployed.main, 5).expect("stop the main container");
        let code = self.cri.exit_code(&deployed.main).expect("its status").expect("it ended");
        self.remove_pod(&deployed.sandbox);
        code
    }
}

impl Deployed {
    /// What the main container has said so far.
    pub(crate) fn main_log(&self, container: &str) -> String {
        fs::read_to_string(format!("{}/{container}.log", self.pod.logs)).unwrap_or_default()
    }
}
