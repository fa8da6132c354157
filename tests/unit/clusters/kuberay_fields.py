"""The fields of KubeRay's own objects that the files in clusters/kuberay use, as documented for v1.6 and v1.7.

Pods and what is in them are Kubernetes' own types. `test_kuberay_schema.py` holds the same files against the schemas
that KubeRay installs in a cluster, where those are to be had.
"""

from __future__ import annotations

from typing import Literal

from lightkube.models.core_v1 import PodTemplateSpec, ResourceRequirements, SecurityContext
from lightkube.models.meta_v1 import ObjectMeta
from msgspec import Struct


class AuthOptions(Struct):
    mode: Literal["disabled", "token"]


class AutoscalerOptions(Struct):
    version: Literal["v1", "v2"]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    idleTimeoutSeconds: int
    imagePullPolicy: Literal["Always", "Never", "IfNotPresent"]
    securityContext: SecurityContext
    resources: ResourceRequirements


class HeadGroupSpec(Struct):
    rayStartParams: dict[str, str]
    template: PodTemplateSpec


class WorkerGroupSpec(Struct):
    groupName: str
    replicas: int
    minReplicas: int
    maxReplicas: int
    rayStartParams: dict[str, str]
    template: PodTemplateSpec


class RayClusterSpec(Struct):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroupSpec
    workerGroupSpecs: list[WorkerGroupSpec]


class RayCluster(Struct):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: ObjectMeta
    spec: RayClusterSpec


class RayJobSpec(Struct):
    entrypoint: str
    runtimeEnvYAML: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    backoffLimit: int
    preRunningDeadlineSeconds: int
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    submitterPodTemplate: PodTemplateSpec
    rayClusterSpec: RayClusterSpec


class RayJob(Struct):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: ObjectMeta
    spec: RayJobSpec
