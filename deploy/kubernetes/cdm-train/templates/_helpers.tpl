{{/* Every helper but `fullname` and those of the whole release takes (dict "root" $ "component" "api" ...). */}}

{{- define "cdm.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "cdm.name" -}}
{{ include "cdm.fullname" .root }}-{{ .component }}
{{- end }}

{{- define "cdm.selector" -}}
app.kubernetes.io/part-of: cdm-train
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "cdm.podLabels" -}}
{{ include "cdm.selector" . }}
app.kubernetes.io/name: {{ .root.Chart.Name }}
{{- end }}

{{- define "cdm.labels" -}}
{{ include "cdm.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "cdm.metadata" -}}
name: {{ include "cdm.name" . }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "cdm.labels" . | nindent 2 }}
{{- end }}

{{/* "image" by its name in the values; "tagSuffix" of another build of it, of the same release. */}}
{{- define "cdm.image" -}}
{{- $images := .root.Values.images -}}
{{- $image := get $images .image -}}
{{- $registry := ternary $images.registry "" (has .image (list "service" "worker" "mlflow")) -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ .tagSuffix | default "" }}
{{- end }}

{{/* What all pods have: "user" is who runs in them, "placement" where; "account" a service account of its own. */}}
{{- define "cdm.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .account }}
serviceAccountName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user | default 10001 }}
  runAsGroup: {{ .user | default 10001 }}
  fsGroup: {{ .user | default 10001 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .placement.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .placement.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .placement.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .placement.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "cdm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What all containers have: "name", and what "cdm.image" asks for. */}}
{{- define "cdm.container" -}}
name: {{ .name | default .component }}
image: {{ include "cdm.image" . }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
securityContext: {{- include "cdm.containerSecurity" . | nindent 2 }}
{{- with .environment }}
env: {{- include "cdm.environment" (dict "root" $.root "environment" .) | trim | nindent 2 }}
{{- end }}
{{- with .resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a pod does in which an operator works: nothing. A shell, since what is process 1 of a container ignores SIGTERM otherwise. */}}
{{- define "cdm.idle" -}}
command: [sh, -c, "trap 'exit 0' TERM; sleep infinity & wait"]
{{- end }}

{{/* A list of variables; what is a map names a key of the Secret. */}}
{{- define "cdm.environment" -}}
{{- range $name, $value := .environment }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  valueFrom: {secretKeyRef: {name: {{ include "cdm.secretName" $.root }}, key: {{ $value.secret }}}}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "cdm.secretName" -}}
{{- .Values.secrets.existingSecret | default (include "cdm.fullname" .) -}}
{{- end }}

{{/* What boto3 and MLflow read; servers other than AWS refuse the newer default checksums. */}}
{{- define "cdm.s3Environment" -}}
{{- with include "cdm.s3Url" . }}
AWS_ENDPOINT_URL_S3: {{ . }}
{{- end }}
{{- if eq .Values.s3.credentials "secret" }}
AWS_ACCESS_KEY_ID: {secret: s3-access-key}
AWS_SECRET_ACCESS_KEY: {secret: s3-secret-key}
{{- end }}
AWS_REGION: {{ .Values.s3.region }}
AWS_DEFAULT_REGION: {{ .Values.s3.region }}
AWS_EC2_METADATA_DISABLED: "true"
AWS_REQUEST_CHECKSUM_CALCULATION: when_required
AWS_RESPONSE_CHECKSUM_VALIDATION: when_required
{{- end }}

{{/* Of what reaches servers by TLS: boto3; requests, as in MLflow; whatever asks OpenSSL; Postgres' drivers. */}}
{{- define "cdm.trust" -}}
{{- with .Values.certificateAuthority }}
{{- if .configMap }}
{{- $file := printf "/etc/cdm-train/%s" .key }}
AWS_CA_BUNDLE: {{ $file }}
REQUESTS_CA_BUNDLE: {{ $file }}
SSL_CERT_FILE: {{ $file }}
PGSSLROOTCERT: {{ $file }}
{{- end }}
{{- end }}
{{- end }}

{{/* The volume with that file, and its mount; each is an item of a list. */}}
{{- define "cdm.trustVolume" -}}
{{- with .Values.certificateAuthority.configMap }}
- {name: certificate-authority, configMap: {name: {{ . }}}}
{{- end }}
{{- end }}

{{- define "cdm.trustMount" -}}
{{- if .Values.certificateAuthority.configMap }}
- {name: certificate-authority, mountPath: /etc/cdm-train, readOnly: true}
{{- end }}
{{- end }}

{{/* Of an MLflow with a login; the API and the workers' MLflow have variables of the same names but for their beginning. */}}
{{- define "cdm.mlflowLogin" }}
{{- if eq .root.Values.mlflow.login "token" }}
{{ .prefix }}TOKEN: {secret: mlflow-token}
{{- else if eq .root.Values.mlflow.login "password" }}
{{ .prefix }}USERNAME: {secret: mlflow-username}
{{ .prefix }}PASSWORD: {secret: mlflow-password}
{{- end }}
{{- end }}

{{- define "cdm.s3Url" -}}
{{- if .Values.s3.bundled }}http://{{ include "cdm.fullname" . }}-s3:8333{{ else }}{{ .Values.s3.endpointUrl }}{{ end -}}
{{- end }}

{{- define "cdm.mlflowUrl" -}}
{{- if .Values.mlflow.bundled }}http://{{ include "cdm.fullname" . }}-mlflow:5000{{ else }}{{ .Values.mlflow.url }}{{ end -}}
{{- end }}

{{/* KubeRay names the head's Service after the RayCluster. */}}
{{- define "cdm.rayUrl" -}}
{{- if .Values.ray.bundled }}http://{{ include "cdm.fullname" . }}-ray-head-svc:8265{{ else }}{{ .Values.ray.url }}{{ end -}}
{{- end }}

{{/* How many workers of CPU jobs a node of a group may have; a worker of a GPU job asks for a GPU alone. */}}
{{- define "cdm.cpuWorkers" -}}
{{ ternary .cpuWorkers .cpus (hasKey . "cpuWorkers") }}
{{- end }}

{{/* What all nodes together may have, of the whole release. */}}
{{- define "cdm.rayGrowsTo" -}}
{{- $most := dict "cpus" (.Values.ray.growsTo.cpus | default 0) "gpus" (.Values.ray.growsTo.gpus | default 0) -}}
{{- if .Values.ray.autoscaling.enabled }}
{{- range $group := .Values.ray.workers }}
{{- $_ := set $most "cpus" (add $most.cpus (mul $group.maxReplicas (include "cdm.cpuWorkers" $group))) }}
{{- $_ := set $most "gpus" (add $most.gpus (mul $group.maxReplicas ($group.gpus | default 0))) }}
{{- end }}
{{- end }}
{{- toYaml $most }}
{{- end }}

{{/* A claim of a StatefulSet, which is all the state of a bundled server. */}}
{{- define "cdm.claims" -}}
- metadata: {name: data}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .storage.className }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ .storage.size }}}}
{{- end }}

{{/* Selects pods of this release, by their components. */}}
{{- define "cdm.anyOf" -}}
matchLabels:
  app.kubernetes.io/part-of: cdm-train
  app.kubernetes.io/instance: {{ .root.Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " .components }}]}
{{- end }}

{{/* The same as peers of a NetworkPolicy. */}}
{{- define "cdm.pods" -}}
- podSelector: {{- include "cdm.anyOf" . | nindent 4 }}
{{- end }}

{{/* The port of a URL, by its scheme where it names none. */}}
{{- define "cdm.port" -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end }}

{{/* Private addresses and those of the cloud's metadata are not the internet. */}}
{{- define "cdm.internet" -}}
- ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]}
- ipBlock: {cidr: "::/0", except: ["fc00::/7", "fe80::/10"]}
{{- end }}
