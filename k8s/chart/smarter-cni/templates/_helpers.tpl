{{/* Labels of objects. Arguments: root context, name of the DaemonSet, component. */}}
{{- define "smarter-cni.labels" -}}
{{- include "smarter-cni.podLabels" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- end }}

{{/* What pods have of them. */}}
{{- define "smarter-cni.podLabels" -}}
k8s-app: {{ index . 1 }}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/component: {{ index . 2 }}
{{- end }}

{{/* The first address of an IPv4 network; nothing for IPv6, auto and pairs, where the program finds it. */}}
{{- define "smarter-cni.firstAddress" -}}
{{- if regexMatch "^[0-9.]+/[0-9]+$" . -}}
{{- $octets := splitList "." (first (splitList "/" .)) -}}
{{- printf "%s.%d" (join "." (initial $octets)) (add1 (last $octets | atoi)) -}}
{{- end -}}
{{- end }}

{{/* The data of the ConfigMap: settings under the names that `smarter-cni install` knows. */}}
{{- define "smarter-cni.settings" -}}
{{- $configuration := .Values.configuration -}}
{{- $settings := dict "subnet" $configuration.subnet -}}
{{- with $configuration.gateway | default (include "smarter-cni.firstAddress" $configuration.subnet) -}}
{{- $_ := set $settings "gateway" . -}}
{{- end -}}
{{- range $value, $setting := dict
    "mtu" "mtu" "hairpin" "hairpin" "masquerade" "masquerade" "forwardOthers" "forward_others" "dnsIntercept" "dns_intercept" "network" "network" "bridge" "bridge"
    "hostPorts" "host_ports" "hostPortSnat" "host_port_snat" "hostPortStrict" "host_port_strict"
    "binDir" "bin_dir" "confDir" "conf_dir" "takeOver" "take_over" "logLevel" "log_level" -}}
{{- $said := get $configuration $value -}}
{{- /* false is something that was said, null and a missing key are not. */ -}}
{{- if not (or (kindIs "invalid" $said) (eq (toString $said) "")) -}}
{{- $_ := set $settings $setting (toString $said) -}}
{{- end -}}
{{- end -}}
{{- range $value, $setting := dict "hostPortInterfaces" "host_port_interfaces" "denyHostPortInterfaces" "deny_host_port_interfaces" -}}
{{- with get $configuration $value -}}
{{- $_ := set $settings $setting (join "," .) -}}
{{- end -}}
{{- end -}}
{{- /* The program takes IPv4 alone: of IPv6 pods ask the gateway. */ -}}
{{- if and .Values.names.enabled (contains "." .Values.names.address) -}}
{{- $_ := set $settings "dns" .Values.names.address -}}
{{- if .Values.names.hostDns -}}
{{- $_ := set $settings "host_dns" .Values.names.domain -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/* The data of the name server's ConfigMap: settings under the names that `smarter-cni dns` knows. */}}
{{- define "smarter-cni.nameSettings" -}}
{{- $names := .Values.names -}}
{{- $settings := dict "CLUSTER_DNS" $names.address "CLUSTER_DOMAIN" $names.domain "DNS_LOGGING" (ternary "True" "False" (eq $names.logging true)) -}}
{{- range $value, $setting := dict
    "ttl" "dns-ttl" "cache" "dns-cache" "stale" "dns-stale" "singleLabels" "dns-single-labels" "fallbackPort" "dns-fallback-port"
    "runtimeSocket" "dns-host-network-names" -}}
{{- $said := get $names $value -}}
{{- /* 0 is something that was said, null and a missing key are not. Helm reads numbers as floats. */ -}}
{{- if not (or (kindIs "invalid" $said) (eq (toString $said) "")) -}}
{{- $_ := set $settings $setting (ternary ($said | int64 | toString) (toString $said) (kindIs "float64" $said)) -}}
{{- end -}}
{{- end -}}
{{- with $names.upstream -}}{{- $_ := set $settings "dns-upstream" (join "," .) -}}{{- end -}}
{{- with $names.clusterUpstream -}}{{- $_ := set $settings "dns-cluster-upstream" (join "," .) -}}{{- end -}}
{{- with $names.hosts -}}{{- $_ := set $settings "dns-hosts" (join ";" .) -}}{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/* What all containers have in common. Arguments: root context, name of the ConfigMap, resources. */}}
{{- define "smarter-cni.container" -}}
{{- $root := index . 0 -}}
image: "{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}"
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: {{ index . 1 }}
resources:
  {{- toYaml (index . 2) | nindent 2 }}
{{- end }}

{{/* Where pods run, and what they get, whatever they do. */}}
{{- define "smarter-cni.pod" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.configuration.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
hostNetwork: true
dnsPolicy: Default
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- end }}

{{/* Arguments: root context, list of capabilities. */}}
{{- define "smarter-cni.securityContext" -}}
privileged: false
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  {{- with index . 1 }}
  add: {{ toJson . }}
  {{- end }}
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
seccompProfile:
  type: RuntimeDefault
{{- with (index . 0).Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Arguments: root context, mount propagation of the container that watches or nothing. */}}
{{- define "smarter-cni.volumeMounts" -}}
{{- $propagation := index . 1 -}}
{{- range $mount := (index . 0).Values.host.mounts }}
{{- if or $propagation (not $mount.only) }}
{{- range prepend ($mount.also | default list) $mount.path }}
- name: {{ $mount.name }}
  mountPath: {{ printf "/host%s" (trimSuffix "/" .) }}
  {{- if $mount.readOnly }}
  readOnly: true
  {{- end }}
  {{- with $propagation }}
  mountPropagation: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
