{{/*
The distributor as a container, and the volumes that it mounts. For the Deployment of this chart, and for that of a chart
that depends on it:

  initContainers:
    - {{- include "distributor.container" .Subcharts.distributor | nindent 6 }}
  volumes:
    {{- include "distributor.volumes" .Subcharts.distributor | nindent 4 }}

with the label distributor: sidecar on its pods, which the NetworkPolicy and the PodMonitor look for, and the labels
app.kubernetes.io/name and app.kubernetes.io/version, which the integration is registered with.
*/}}

{{- define "distributor.hasPlugins" -}}
{{- if or .Values.plugins.configMap .Values.plugins.files .Values.plugins.components }}yes{{ end }}
{{- end }}

{{- define "distributor.pluginsConfigMap" -}}
{{- .Values.plugins.configMap | default (printf "%s-plugins" .Release.Name) }}
{{- end }}

{{- define "distributor.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "distributor.container" -}}
name: distributor
image: {{ include "distributor.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if eq .Values.sidecar "native" }}
restartPolicy: Always
{{- end }}
env:
  - name: PUBSUB_TOPIC
    value: {{ join "," .Values.topics | quote }}
  {{- if .Values.remote.endpoint }}
  - name: KEPTN_API_ENDPOINT
    value: {{ .Values.remote.endpoint }}
  - name: KEPTN_API_TOKEN_FILE
    value: /etc/distributor/keptn-api/token
  - name: DEAD_LETTER
    value: file:/var/lib/distributor/dead-letters
  - name: DEDUPE_STATE_FILE
    value: /var/lib/distributor/delivered
  {{- else }}
  # All replicas share the events. Without it each gets every event, and loses those while it is not there.
  - name: PUBSUB_GROUP
    valueFrom:
      fieldRef:
        fieldPath: metadata.labels['app.kubernetes.io/name']
  - name: PUBSUB_URL
    value: {{ .Values.nats.url }}
  {{- end }}
  - name: PUBSUB_RECIPIENT_PORT
    value: {{ .Values.service.port | quote }}
  {{- with .Values.service.path }}
  - name: PUBSUB_RECIPIENT_PATH
    value: {{ . }}
  {{- end }}
  {{- range $name, $list := dict "PROJECT_FILTER" .Values.filters.projects "STAGE_FILTER" .Values.filters.stages "SERVICE_FILTER" .Values.filters.services }}
  {{- with $list }}
  - name: {{ $name }}
    value: {{ join "," . | quote }}
  {{- end }}
  {{- end }}
  {{- if include "distributor.hasPlugins" . }}
  - name: PLUGINS_DIR
    value: /etc/distributor/plugins
  # Outlives the container: a restart compiles nothing, and comes up although the ConfigMap is broken.
  - name: PLUGINS_CACHE_DIR
    value: /var/cache/distributor/plugins
  {{- end }}
  - name: SHUTDOWN_DRAIN_TIMEOUT
    value: {{ .Values.drainTimeout }}
  - name: VERSION
    valueFrom:
      fieldRef:
        fieldPath: metadata.labels['app.kubernetes.io/version']
  - name: K8S_DEPLOYMENT_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.labels['app.kubernetes.io/name']
  - name: K8S_POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: K8S_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: K8S_NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  {{- range $name, $value := .Values.env }}
  - name: {{ $name }}
    # Helm reads large whole numbers as floating point.
    value: {{ if kindIs "float64" $value }}{{ $value | int64 | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
  {{- end }}
  {{- with .Values.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  # Probes and metrics. The ports for the service (8081) and for operators (8092) are on localhost.
  - name: admin
    containerPort: 8091
startupProbe:
  httpGet:
    path: /startupz
    port: admin
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: admin
  periodSeconds: 10
  failureThreshold: 3
{{- if .Values.readinessProbe }}
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 5
  failureThreshold: 3
{{- end }}
{{- if eq .Values.sidecar "classic" }}
lifecycle:
  preStop:
    sleep:
      seconds: 20
{{- end }}
resources:
  {{- if .Values.resources }}
  {{- toYaml .Values.resources | nindent 2 }}
  {{- else }}
  requests:
    cpu: 10m
    memory: {{ if include "distributor.hasPlugins" . }}64Mi{{ else }}32Mi{{ end }}
  limits:
    memory: {{ if include "distributor.hasPlugins" . }}128Mi{{ else }}64Mi{{ end }}
  {{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- if or .Values.remote.endpoint (include "distributor.hasPlugins" .) .Values.volumeMounts }}
volumeMounts:
  {{- if .Values.remote.endpoint }}
  - name: distributor-keptn-api
    mountPath: /etc/distributor/keptn-api
    readOnly: true
  - name: distributor-state
    mountPath: /var/lib/distributor
  {{- end }}
  {{- if include "distributor.hasPlugins" . }}
  # The whole ConfigMap as a directory. With `subPath` it would never change.
  - name: distributor-plugins
    mountPath: /etc/distributor/plugins
    readOnly: true
  - name: distributor-cache
    mountPath: /var/cache/distributor
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "distributor.volumes" -}}
{{- if .Values.remote.endpoint }}
- name: distributor-keptn-api
  secret:
    secretName: {{ .Values.remote.tokenSecret }}
    defaultMode: 0440
- name: distributor-state
  emptyDir:
    sizeLimit: 128Mi
{{- end }}
{{- if include "distributor.hasPlugins" . }}
- name: distributor-plugins
  configMap:
    name: {{ include "distributor.pluginsConfigMap" . }}
    # A ConfigMap that is missing does not keep the pod from starting; it takes effect when it is there.
    optional: true
- name: distributor-cache
  emptyDir:
    sizeLimit: 320Mi
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "distributor.labels" -}}
app.kubernetes.io/name: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.service.image | splitList ":" | last | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
distributor: sidecar
{{- end }}
