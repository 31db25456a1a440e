package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	k8syaml "sigs.k8s.io/yaml"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
)

// Manager is the field manager of everything that is applied.
const Manager = "sightline"

// pageSize is how many objects one list call asks for.
const pageSize = 500

// resources are the kinds of Manifests by where the API has them.
var resources = map[string]schema.GroupVersionResource{
	"ConfigMap":      {Version: "v1", Resource: "configmaps"},
	"PrometheusRule": {Group: "monitoring.coreos.com", Version: "v1", Resource: "prometheusrules"},
	"Secret":         {Version: "v1", Resource: "secrets"},
}

// A Target is one namespace of a cluster as a plan.Target. Its artifacts are those of Manifests. It applies on the server
// as the field manager "sightline": fields that others set on Sightline's objects stay, and those that others changed are
// set back. Objects without the mark are neither read whole, changed nor removed.
type Target struct {
	client     dynamic.Interface
	host       string
	namespace  string
	held       map[string]*unstructured.Unstructured // by path
	lacksRules bool                                  // the cluster has no PrometheusRule, as far as was asked
}

var _ plan.Target = (*Target)(nil)

// Load reads how to reach a cluster: from a kubeconfig file, or "" for the service account of the pod it runs in.
func Load(kubeconfig string) (*rest.Config, error) {
	var c *rest.Config
	var err error
	if kubeconfig == "" {
		c, err = rest.InClusterConfig()
	} else {
		c, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	return c, nil
}

// NewTarget makes a target for a namespace; it asks the cluster nothing yet.
func NewTarget(c *rest.Config, namespace string) (*Target, error) {
	if namespace == "" {
		return nil, errors.New("no namespace is named")
	}
	c = rest.CopyConfig(c)
	c.UserAgent = "sightline"
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster at %s: %w", c.Host, err)
	}
	return &Target{client: client, host: c.Host, namespace: namespace}, nil
}

// Name is "kubernetes", the address and the namespace.
func (t *Target) Name() string { return "kubernetes " + t.host + " namespace " + t.namespace }

// Accepts tells that manifests are made of rules, dashboards and Alertmanager's configuration.
func (t *Target) Accepts(k plan.Kind) bool {
	return k == plan.KindRules || k == plan.KindDashboard || k == plan.KindAlertmanager
}

// Held lists the objects with the mark. A cluster without the Prometheus operator holds no PrometheusRules.
func (t *Target) Held(ctx context.Context) ([]plan.Artifact, error) {
	t.held = map[string]*unstructured.Unstructured{}
	t.lacksRules = false
	var out []plan.Artifact
	for _, kind := range slices.Sorted(maps.Keys(resources)) {
		r := resources[kind]
		o := meta.ListOptions{LabelSelector: ManagedBy + "=" + Manager, Limit: pageSize}
		for {
			list, err := t.client.Resource(r).Namespace(t.namespace).List(ctx, o)
			if apierrors.IsNotFound(err) && kind == "PrometheusRule" {
				t.lacksRules = true
				break
			}
			if apierrors.IsNotFound(err) { // every cluster has these, in every namespace
				return nil, fmt.Errorf("list %s: %w", r.Resource, hinted{err, notKubernetes})
			}
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.Resource, explain(err))
			}
			for i := range list.Items {
				a, err := artifact(kind, &list.Items[i])
				if err != nil {
					return nil, err
				}
				t.held[a.Path] = &list.Items[i]
				out = append(out, a)
			}
			if o.Continue = list.GetContinue(); o.Continue == "" {
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b plan.Artifact) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// artifact writes an object as Manifests would have: labels and annotations that Sightline does not manage are left out.
func artifact(kind string, live *unstructured.Unstructured) (plan.Artifact, error) {
	a := plan.Artifact{Kind: plan.KindDashboard, Path: "kubernetes/" + strings.ToLower(kind) + "-" + live.GetName() + ".yaml"}
	switch kind {
	case "PrometheusRule":
		a.Kind = plan.KindRules
	case "Secret":
		a.Kind = plan.KindAlertmanager
	}
	a.Owner, _ = catalog.ParseRef(live.GetAnnotations()[Owner], "")
	body, err := live.MarshalJSON()
	var obj object
	if err == nil {
		err = yaml.Unmarshal(body, &obj) // JSON is YAML
	}
	if err == nil {
		obj.APIVersion, obj.Kind = live.GetAPIVersion(), kind
		obj.Metadata.Labels = managed(live, "f:labels", obj.Metadata.Labels)
		obj.Metadata.Annotations = managed(live, "f:annotations", obj.Metadata.Annotations)
		a.Body, err = obj.yaml()
	}
	if err != nil {
		return a, fmt.Errorf("read %s %s: %w", kind, live.GetName(), err)
	}
	return a, nil
}

// managed gives the part of the labels or annotations that Sightline applied.
func managed(live *unstructured.Unstructured, part string, all map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range live.GetManagedFields() {
		var fields struct {
			Metadata map[string]map[string]any `json:"f:metadata"`
		}
		if m.Manager != Manager || m.Operation != meta.ManagedFieldsOperationApply || m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		for k := range fields.Metadata[part] {
			if name, ok := strings.CutPrefix(k, "f:"); ok {
				if v, ok := all[name]; ok {
					out[name] = v
				}
			}
		}
	}
	return out
}

// Put applies an object.
func (t *Target) Put(ctx context.Context, a plan.Artifact) error {
	obj := &unstructured.Unstructured{}
	body, err := k8syaml.YAMLToJSON(a.Body)
	if err == nil {
		err = obj.UnmarshalJSON(body)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", a.Path, err)
	}
	resource, ok := resources[obj.GetKind()]
	if !ok || obj.GetLabels()[ManagedBy] != Manager {
		return fmt.Errorf("%s is no manifest of Sightline's", a.Path)
	}
	if obj.GetNamespace() != t.namespace {
		return fmt.Errorf("%s is for the namespace %q, not %s", a.Path, obj.GetNamespace(), t.namespace)
	}
	api := t.client.Resource(resource).Namespace(t.namespace)
	now, err := api.Get(ctx, obj.GetName(), meta.GetOptions{})
	switch was := t.held[a.Path]; {
	case apierrors.IsNotFound(err):
		now = nil
	case err != nil:
		return fmt.Errorf("read %s %s: %w", obj.GetKind(), obj.GetName(), explain(err))
	case now.GetLabels()[ManagedBy] != Manager:
		return fmt.Errorf("apply %s %s: it has no label %s=%s: %w", obj.GetKind(), obj.GetName(), ManagedBy, Manager, plan.ErrForeign)
	case was == nil || was.GetResourceVersion() != now.GetResourceVersion():
		if have, err := artifact(obj.GetKind(), now); err == nil && string(have.Body) == string(a.Body) {
			return nil // another apply was faster
		}
		return fmt.Errorf("apply %s %s: %w", obj.GetKind(), obj.GetName(), plan.ErrConflict)
	default:
		obj.SetResourceVersion(now.GetResourceVersion()) // a change until then is a conflict
	}
	// Only what is known to be Sightline's may be taken from other managers.
	_, err = api.Apply(ctx, obj.GetName(), obj, meta.ApplyOptions{FieldManager: Manager, Force: now != nil})
	if apierrors.IsConflict(err) {
		return fmt.Errorf("apply %s %s: %w: %w", obj.GetKind(), obj.GetName(), plan.ErrConflict, err)
	}
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", obj.GetKind(), obj.GetName(), explain(err))
	}
	return nil
}

// Remove deletes an object that is as it was read.
func (t *Target) Remove(ctx context.Context, a plan.Artifact) error {
	was := t.held[a.Path]
	if was == nil {
		return fmt.Errorf("remove %s: nothing like it was read", a.Path)
	}
	uid, version := was.GetUID(), was.GetResourceVersion()
	err := t.client.Resource(resources[was.GetKind()]).Namespace(t.namespace).Delete(ctx, was.GetName(), meta.DeleteOptions{
		Preconditions: &meta.Preconditions{UID: &uid, ResourceVersion: &version},
	})
	switch {
	case err == nil || apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return fmt.Errorf("remove %s %s: %w", was.GetKind(), was.GetName(), plan.ErrConflict)
	}
	return fmt.Errorf("remove %s %s: %w", was.GetKind(), was.GetName(), explain(err))
}

// hinted is an error of the cluster with what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint says what to do.
func (h hinted) Hint() string { return h.hint }

const notKubernetes = "what answers is not the API of a Kubernetes: check the server that kubernetes.kubeconfig names"

// isAnswer tells whether an error is what some server said.
func isAnswer(err error) bool { return !errors.As(err, new(net.Error)) }

func explain(err error) error {
	var transport *url.Error
	switch {
	case errors.As(err, &transport):
		server, _, _ := strings.Cut(transport.URL, "/api")
		return hinted{fmt.Errorf("%s: %w", server, transport.Err), "check that the cluster runs, and the server that kubernetes.kubeconfig names"}
	case apierrors.IsUnauthorized(err):
		return hinted{err, "the credentials are wrong or expired: check the kubeconfig"}
	case apierrors.IsForbidden(err):
		return hinted{err, "let Sightline get, list, create, patch and delete configmaps, secrets and prometheusrules in the namespace: see docs/kubernetes.md"}
	case apierrors.IsNotFound(err):
		return hinted{err, "the namespace or the Prometheus operator's PrometheusRule does not exist in the cluster"}
	case !errors.As(err, new(apierrors.APIStatus)):
		return hinted{err, notKubernetes}
	}
	return err
}
