{{/* What all charts of this folder share: names, labels and how containers are locked up. Each has the same copy. */}}

{{- define "common.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* What pods are selected by: never changes in the life of a release. */}}
{{- define "common.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "common.labels" -}}
{{ include "common.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: regreen
{{- end }}

{{- define "common.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "common.serviceAccount" -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false: set serviceAccount.name to the account that is there" -}}
{{- end -}}
{{ .Values.serviceAccount.name | default (include "common.name" .) }}
{{- end }}

{{/* Restricted Pod Security. OpenShift gives each namespace user and group ids of its own and refuses others. */}}
{{- define "common.podSecurity" -}}
runAsNonRoot: true
{{- if ne .Values.platform "openshift" }}
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "common.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods run, and what they are pulled with. */}}
{{- define "common.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A policy that lets nothing in or out of the release's pods: what is allowed, others say. */}}
{{- define "common.denyAll" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "common.name" . }}-deny
  labels:
    {{- include "common.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "common.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end }}

{{/* Rules of a map from purposes to peers and ports. A purpose without peers allows nothing: an empty `to` would allow all. */}}
{{- define "common.egress" -}}
{{- range $purpose, $rule := . }}
{{- if $rule.to }}
# {{ $purpose }}
- to:
    {{- toYaml $rule.to | nindent 4 }}
  ports:
    {{- range $rule.ports }}
    - { protocol: TCP, port: {{ . }} }
    {{- if eq $purpose "dns" }}
    - { protocol: UDP, port: {{ . }} }
    {{- end }}
    {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The way in to the service. */}}
{{- define "common.ingress" -}}
{{- $root := . }}
{{- with $root.Values.ingress }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "common.name" $root }}
  labels:
    {{- include "common.labels" $root | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .className }}
  ingressClassName: {{ . }}
  {{- end }}
  rules:
    - host: {{ .host }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ include "common.name" $root }}
                port:
                  name: http
  {{- with .tlsSecret }}
  tls:
    - hosts: [{{ $root.Values.ingress.host }}]
      secretName: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "common.route" -}}
apiVersion: route.openshift.io/v1
kind: Route
metadata:
  name: {{ include "common.name" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
  {{- with .Values.route.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .Values.route.host }}
  host: {{ . }}
  {{- end }}
  to:
    kind: Service
    name: {{ include "common.name" . }}
    weight: 100
  port:
    targetPort: http
  tls:
    termination: edge
    insecureEdgeTerminationPolicy: Redirect
{{- end }}

{{/*
Policies of a chart with one kind of pod: `clients` reach its port, it reaches what `egress` names. Needs the chart and the
container's port, as a number: OVN-Kubernetes takes no notice of names, and with that lets clients reach every port.
*/}}
{{- define "common.policies" -}}
{{- $port := .port -}}
{{- with .root -}}
{{ include "common.denyAll" . }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "common.name" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "common.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with .Values.networkPolicy.clients }}
  ingress:
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - { protocol: TCP, port: {{ $port }} }
  {{- end }}
  egress:
    {{- include "common.egress" .Values.networkPolicy.egress | trim | nindent 4 }}
{{- end }}
{{- end }}

{{- define "common.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "common.name" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "common.selector" . | nindent 4 }}
  ports:
    - { name: http, port: {{ .Values.service.port }}, targetPort: http }
{{- end }}

{{- define "common.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "common.serviceAccount" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
# Pods that need a token say so themselves.
automountServiceAccountToken: false
{{- end }}

{{/* A Deployment up to its container's own part, which follows at the indentation of `name`. */}}
{{- define "common.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "common.name" . }}
  labels: &labels
    {{- include "common.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels:
      {{- include "common.selector" . | nindent 6 }}
  template:
    metadata:
      labels: *labels
    spec:
      serviceAccountName: {{ include "common.serviceAccount" . }}
      enableServiceLinks: false
      {{- include "common.placement" . | indent 6 }}
      securityContext:
        {{- include "common.podSecurity" . | nindent 8 }}
{{- end }}
