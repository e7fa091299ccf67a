{{/* Labels of both objects. */}}
{{- define "smarter-cni.labels" -}}
k8s-app: {{ .Values.application.appName }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/component: pod-network
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
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
    "mtu" "mtu" "hairpin" "hairpin" "masquerade" "masquerade" "forwardOthers" "forward_others" "network" "network" "bridge" "bridge"
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
{{- toYaml $settings -}}
{{- end }}

{{/* What both containers have in common. */}}
{{- define "smarter-cni.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: {{ .Values.application.configMapName }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
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
