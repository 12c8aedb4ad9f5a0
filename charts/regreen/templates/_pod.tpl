{{/* The settings file. */}}

{{/* A table written in one line. JSON's strings and numbers are TOML's too. */}}
{{- define "regreen.inline" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ toJson $key }} = {{ include "regreen.inline" (get $ $key) }}{{ end -}} }
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}

{{- define "regreen.toml" -}}
{{- $settings := deepCopy .Values.settings }}
{{- $own := dict
      "server" (dict "bind" "0.0.0.0" "port" 8000 "metrics_bind" "0.0.0.0:9090")
      "database" (dict) }}
{{- if or .Values.documents.inline .Values.documents.claim }}
{{- $_ := set $own "knowledge" (dict "corpus" "/etc/regreen/documents") }}
{{- end }}
{{- if .Values.prompts }}
{{- $_ := set $own "prompts" (dict "folder" "/etc/regreen/prompts") }}
{{- end }}
{{- if .Values.policy }}
{{- $_ := set $own "policy" (dict "file" "/etc/regreen/policy.toml") }}
{{- end }}
{{- range $section, $keys := mustMergeOverwrite $settings $own }}
{{- if $keys }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ if kindIs "bool" $value }}{{ ternary "yes" "no" $value | quote }}{{ else }}{{ toJson $value }}{{ end }}
{{- end }}
{{ end }}
{{- end }}
{{- range $table, $rows := dict "mcp" .Values.mcp "price" .Values.prices }}
{{- range $rows }}
[[{{ $table }}]]
{{- range $key, $value := . }}
{{ $key }} = {{ include "regreen.inline" $value }}
{{- end }}
{{ end }}
{{- end }}
{{- end }}

{{/* Whether the API server is asked about callers. */}}
{{- define "regreen.asksCluster" -}}
{{- if has "kubernetes" (splitList "," (.Values.settings.auth.ways | nospace)) }}yes{{ end }}
{{- end }}

{{/* One container: needs the chart, the component's name, its arguments and its resources. */}}
{{- define "regreen.container" -}}
{{- $root := .root -}}
name: {{ .component }}
image: {{ include "common.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: {{ toJson .args }}
env:
  - { name: REGREEN_CONFIG, value: /etc/regreen/regreen.toml }
  {{- range $name, $value := $root.Values.env }}
  - { name: {{ $name }}, value: {{ $value | quote }} }
  {{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- include "common.containerSecurity" $root | nindent 2 }}
volumeMounts:
  {{- include "regreen.mounts" $root | nindent 2 }}
{{- end }}

{{- define "regreen.mounts" -}}
- { name: config, mountPath: /etc/regreen/regreen.toml, subPath: regreen.toml, readOnly: true }
{{- if .Values.policy }}
- { name: config, mountPath: /etc/regreen/policy.toml, subPath: policy.toml, readOnly: true }
{{- end }}
- { name: secret, mountPath: /run/secrets/regreen, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- if .Values.prompts }}
- { name: prompts, mountPath: /etc/regreen/prompts, readOnly: true }
{{- end }}
{{- if or .Values.documents.inline .Values.documents.claim }}
- { name: documents, mountPath: /etc/regreen/documents, readOnly: true }
{{- end }}
{{- end }}

{{- define "regreen.volumes" -}}
- name: config
  configMap:
    name: {{ include "common.name" . }}
- name: secret
  secret:
    secretName: {{ .Values.secret.name }}
    # Read by the pod's group, whatever its user.
    defaultMode: 0440
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- if .Values.prompts }}
- name: prompts
  configMap:
    name: {{ include "common.name" . }}-prompts
{{- end }}
{{- if .Values.documents.claim }}
- name: documents
  persistentVolumeClaim:
    claimName: {{ .Values.documents.claim }}
    readOnly: true
{{- else if .Values.documents.inline }}
- name: documents
  configMap:
    name: {{ include "common.name" . }}-documents
{{- end }}
{{- end }}

{{/* All of a pod but its containers. */}}
{{- define "regreen.pod" -}}
serviceAccountName: {{ include "common.serviceAccount" . }}
enableServiceLinks: false
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with include "common.placement" . | trim }}
{{ . }}
{{- end }}
securityContext:
  {{- include "common.podSecurity" . | nindent 2 }}
volumes:
  {{- include "regreen.volumes" . | nindent 2 }}
{{- end }}

{{/* A pod that runs once: for Jobs and CronJobs. */}}
{{- define "regreen.oncePod" -}}
metadata:
  labels:
    {{- include "common.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  {{- include "regreen.pod" .root | nindent 2 }}
  containers:
    - {{- include "regreen.container" . | nindent 6 }}
{{- end }}
