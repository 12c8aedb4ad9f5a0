{{/* The settings file, and the pods that read it. */}}

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
{{- $_ := set $settings "auth" (set (omit $settings.auth "ways") "methods" (.Values.settings.auth.ways | default .Values.settings.auth.methods)) }}
{{- $own := dict
      "server" (dict "bind" "0.0.0.0" "port" 8000 "metrics_bind" "0.0.0.0:9090")
      "database" (dict) }}
{{- if or .Values.documents.inline .Values.documents.claim }}
{{- $_ := set $own "knowledge" (dict "corpus" "/etc/regreen-documents") }}
{{- end }}
{{- range $what := list "prompts" "pages" }}
{{- if index $.Values $what }}
{{- $_ := set $own $what (dict "folder" (printf "/etc/regreen-%s" $what)) }}
{{- end }}
{{- end }}
{{- if .Values.policy }}
{{- $_ := set $own "policy" (dict "file" "/etc/regreen/policy.toml") }}
{{- end }}
{{- range $section, $keys := mustMergeOverwrite $settings $own }}
{{- if $keys }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ if kindIs "bool" $value }}{{ ternary "yes" "no" $value | quote }}{{ else if kindIs "map" $value }}{{ include "regreen.inline" $value }}{{ else }}{{ toJson $value }}{{ end }}
{{- end }}
{{ end }}
{{- end }}
{{- range $table, $rows := dict "mcp" .Values.mcp "notify" .Values.notify "price" .Values.prices }}
{{- range $rows }}
[[{{ $table }}]]
{{- range $key, $value := . }}
{{ $key }} = {{ include "regreen.inline" $value }}
{{- end }}
{{ end }}
{{- end }}
{{- end }}

{{/* How long a time of the settings is: `1m 30s`, or a number of seconds. */}}
{{- define "regreen.milliseconds" -}}
{{- if not (kindIs "string" .) -}}
{{ mul 1000 (int64 .) }}
{{- else -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+ ?[a-z]+" . -1 -}}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | int64) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{ $sum }}
{{- end -}}
{{- end }}

{{/* How callers authenticate; `ways` is the old name, which counts where it is set. */}}
{{- define "regreen.methods" -}}
{{ .Values.settings.auth.ways | default .Values.settings.auth.methods | nospace }}
{{- end }}

{{/* Whether the API server is asked about callers, or for the keys of their tokens. */}}
{{- define "regreen.asksCluster" -}}
{{- if has "kubernetes" (splitList "," (include "regreen.methods" .)) }}yes{{ end }}
{{- end }}

{{/* Whether it is asked about each token. Its keys are read with the right that every service account has. */}}
{{- define "regreen.asksReviews" -}}
{{- if and (include "regreen.asksCluster" .) (not .Values.settings.auth.kubernetes_issuer) }}yes{{ end }}
{{- end }}

{{/*
A container: needs the chart, the component's name, its arguments and its resources. With `bare` it has the database alone:
before an upgrade, the settings that are in the cluster are still the old ones, and before a first sync of Argo CD there is no account.
*/}}
{{- define "regreen.container" -}}
{{- $values := .root.Values -}}
name: {{ .component }}
image: {{ include "common.image" .root }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args: {{ toJson .args }}
env:
  {{- if .bare }}
  # The image's is where others reach it, which wants `auth.methods`: this pod serves nobody.
  - { name: REGREEN_BIND, value: 127.0.0.1 }
  - { name: REGREEN_DATABASE_URL, value: {{ $values.settings.database.url | quote }} }
  {{- else }}
  - { name: REGREEN_CONFIG, value: /etc/regreen/regreen.toml }
  {{- end }}
  {{- if $values.migrations.configMap }}
  - { name: REGREEN_MIGRATIONS, value: /etc/regreen-migrations }
  {{- end }}
  {{- if and $values.ca.configMap (not (hasKey $values.env "SSL_CERT_FILE")) }}
  - { name: SSL_CERT_FILE, value: {{ printf "/etc/regreen-ca/%s" $values.ca.key | quote }} }
  {{- end }}
  {{- range $name, $value := $values.env }}
  - { name: {{ $name }}, value: {{ $value | quote }} }
  {{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- include "common.containerSecurity" . | nindent 2 }}
volumeMounts:
  - { name: secret, mountPath: /run/secrets/regreen, readOnly: true }
  - { name: tmp, mountPath: /tmp }
  {{- if $values.ca.configMap }}
  - { name: ca, mountPath: /etc/regreen-ca, readOnly: true }
  {{- end }}
  {{- if $values.migrations.configMap }}
  - { name: migrations, mountPath: /etc/regreen-migrations, readOnly: true }
  {{- end }}
  {{- if not .bare }}
  - { name: config, mountPath: /etc/regreen, readOnly: true }
  {{- range $what := list "prompts" "pages" }}
  {{- if index $values $what }}
  - { name: {{ $what }}, mountPath: /etc/regreen-{{ $what }}, readOnly: true }
  {{- end }}
  {{- end }}
  {{- if or $values.documents.inline $values.documents.claim }}
  - { name: documents, mountPath: /etc/regreen-documents, readOnly: true }
  {{- end }}
  {{- if $values.models.claim }}
  - { name: models, mountPath: /models, readOnly: true }
  {{- end }}
  {{- end }}
{{- end }}

{{- define "regreen.volumes" -}}
{{- $name := include "common.name" .root -}}
{{- $values := .root.Values -}}
- name: secret
  secret:
    secretName: {{ $values.secret.name }}
    # Read by the pod's group, whatever its user.
    defaultMode: 0440
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- with $values.ca.configMap }}
- name: ca
  configMap:
    name: {{ . }}
{{- end }}
{{- with $values.migrations.configMap }}
- name: migrations
  configMap:
    name: {{ . }}
{{- end }}
{{- if not .bare }}
- name: config
  configMap:
    name: {{ $name }}
{{- range $what := list "prompts" "pages" }}
{{- if index $values $what }}
- name: {{ $what }}
  configMap:
    name: {{ $name }}-{{ $what }}
{{- end }}
{{- end }}
{{- if $values.models.claim }}
- name: models
  persistentVolumeClaim:
    claimName: {{ $values.models.claim }}
    readOnly: true
{{- end }}
{{- if $values.documents.claim }}
- name: documents
  persistentVolumeClaim:
    claimName: {{ $values.documents.claim }}
    readOnly: true
{{- else if $values.documents.inline }}
- name: documents
  configMap:
    name: {{ $name }}-documents
{{- end }}
{{- end }}
{{- end }}

{{/* A pod's spec, as far as all have it. It ends with the container: what follows at its indentation belongs to that. */}}
{{- define "regreen.pod" -}}
{{- if not .bare }}
serviceAccountName: {{ include "common.serviceAccount" .root }}
{{- end }}
enableServiceLinks: false
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- include "common.placement" .root }}
securityContext:
  {{- include "common.podSecurity" .root | nindent 2 }}
volumes:
  {{- include "regreen.volumes" . | nindent 2 }}
containers:
  - {{- include "regreen.container" . | nindent 4 }}
{{- end }}

{{/* The template of a pod that runs once, for Jobs. */}}
{{- define "regreen.once" -}}
metadata:
  labels:
    {{- include "common.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  {{- include "regreen.pod" . | nindent 2 }}
{{- end }}
