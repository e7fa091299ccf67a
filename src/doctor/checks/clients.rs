//! Whom pods ask for names: what kubelets tell them, and what stands in their files.

use std::net::IpAddr;
use std::path::Path;

use super::names::{ASKED, asked, own};
use crate::doctor::check::{Check, Finding, Group as G, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::host::kubelets::{Kind, Kubelet};
use crate::text::typed;

use Severity::{Info, Warning};

pub(super) const CHECKS: &[Check] = &[
    G::Bridge.check("dns-kubelet", "kubelets send pods to the name server alone", Warning, ASKED, kubelet),
    G::Bridge.check("dns-pods", "pods ask the name server", Info, ASKED, pods),
];

fn kubelet(evidence: &Evidence) -> Verdict {
    let (names, addresses) = asked(evidence)?;
    let wanted = own(evidence)?;
    let Some(address) = wanted.first() else { return Ok(Vec::new()) };
    led_here(evidence)?;
    if names.kubelets.is_empty() {
        return Err(Pass::skipped("no kubelet runs here"));
    }
    let is_ours =
        |text: &String| text.parse().is_ok_and(|ip: IpAddr| addresses.contains(&ip) || wanted.contains(&ip));
    let mut findings = Vec::new();
    for kubelet in &names.kubelets {
        let said = kubelet.servers.join(", ");
        let found = match kubelet.servers.as_slice() {
            [only] if is_ours(only) => continue,
            [] => "it names no name server to pods (cluster-dns): they get one that is not the node's"
                .to_owned(),
            several if several.iter().any(is_ours) => format!(
                "it names several name servers to pods ({said}): some programs ask all of them and take the first answer, also \
                 that there is no such name"
            ),
            _ => format!("it sends pods to {said}, and the node's name server is at {address}"),
        };
        findings.push(Finding::problem(object(kubelet), found, tell(kubelet, *address)));
    }
    Ok(findings)
}

/// Whom pods were told to ask does not matter where all that they ask comes here.
fn led_here(evidence: &Evidence) -> Result<(), Pass> {
    let mut gateways = evidence
        .records()?
        .live()
        .filter_map(|pod| pod.record.attachment()?.gateway.as_ref())
        .filter(|gateway| gateway.dns.is_some())
        .peekable();
    if gateways.peek().is_some() && gateways.all(|gateway| gateway.intercept) {
        return Err(Pass::skipped("what pods ask of others is led to the name server (nodeDnsIntercept)"));
    }
    Ok(())
}

fn object(kubelet: &Kubelet) -> String {
    match kubelet.kind {
        Kind::Kubelet => "kubelet".to_owned(),
        other => format!("kubelet of {other}"),
    }
}

/// What is written where.
fn tell(kubelet: &Kubelet, address: IpAddr) -> String {
    let file = kubelet.file.as_deref().map(|file| typed(Path::display(file)));
    let anew = "pods that run are sent there when they are made anew";
    match (kubelet.kind, file) {
        (Kind::K3s, _) => format!(
            "mkdir -p /etc/rancher/k3s/config.yaml.d && echo 'kubelet-arg+: [\"cluster-dns={address}\"]' > \
             /etc/rancher/k3s/config.yaml.d/smarter-cni.yaml\nthen: systemctl restart k3s, or k3s-agent; an option of its unit counts \
             more; {anew}"
        ),
        (Kind::Rke2, _) => format!(
            "mkdir -p /etc/rancher/rke2/config.yaml.d && echo 'kubelet-arg+: [\"cluster-dns={address}\"]' > \
             /etc/rancher/rke2/config.yaml.d/smarter-cni.yaml\nthen: systemctl restart rke2-server, or rke2-agent; {anew}"
        ),
        (Kind::Microk8s, Some(file)) => format!(
            "sed -i '/^--cluster-dns=/d' {file} && printf '\\n--cluster-dns={address}\\n' >> {file}\nthen: snap restart \
             microk8s.daemon-kubelite; {anew}"
        ),
        (Kind::KubeEdge, Some(file)) => format!(
            "write clusterDNS: [{address}] below modules.edged.tailoredKubeletConfig in {file}, and nothing else there\nthen: systemctl \
             restart edgecore; {anew}"
        ),
        (_, Some(file)) if kubelet.is_open => format!(
            "printf '\\nclusterDNS: [{address}]\\n' >> {file}\nthen: systemctl restart kubelet; with kubeadm also: kubectl -n kube-system \
             edit configmap kubelet-config; {anew}"
        ),
        (_, Some(file)) => format!(
            "write clusterDNS: [{address}] in {file}, and nothing else there\nthen: systemctl restart kubelet; with kubeadm also: \
             kubectl -n kube-system edit configmap kubelet-config; {anew}"
        ),
        (_, None) => format!("start it with --cluster-dns={address} and no other --cluster-dns\n{anew}"),
    }
}

/// Some pods are meant to ask others (dnsPolicy).
fn pods(evidence: &Evidence) -> Verdict {
    /// More than that nobody reads.
    const MOST: usize = 5;
    let (names, addresses) = asked(evidence)?;
    led_here(evidence)?;
    if names.pods.is_empty() {
        return Err(Pass::skipped("the runtime's files of pods were not found"));
    }
    let others = names.pods.iter().filter(|(_, servers)| !servers.iter().any(|ip| addresses.contains(ip)));
    let others: Vec<String> = others
        .map(|(pod, servers)| {
            let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
            let servers = if servers.is_empty() { "nobody".to_owned() } else { servers.join(", ") };
            format!("{pod} ({servers})")
        })
        .collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let more = others.len().saturating_sub(MOST);
    let shown = others.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Ok(vec![Finding::problem(
        "resolv.conf of pods",
        format!("these ask somebody else: {shown}{more}"),
        "make them anew where that is not meant by their dnsPolicy: kubectl delete pod; what the kubelet tells them is dns-kubelet's",
    )])
}
