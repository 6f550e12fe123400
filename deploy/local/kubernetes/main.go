// One binary for a whole Kubernetes: each part runs under the name it is called by, through a
// link (`kubectl get nodes`) or as the first argument (`kubernetes kubectl get nodes`).
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	helm "helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func(name string) int{
	"etcd":                    runEtcd,
	"kube-apiserver":          serve(func() *cobra.Command { return apiserver.NewAPIServerCommand() }),
	"kube-controller-manager": serve(func() *cobra.Command { return controllers.NewControllerManagerCommand() }),
	"kube-scheduler":          serve(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 serve(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
	"helm":                    runHelm,
}

func serve(command func() *cobra.Command) func(string) int {
	return func(string) int { return cli.Run(command()) }
}

func runEtcd(string) int {
	etcdmain.Main(os.Args)
	return 0
}

func runKubectl(string) int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}

func runHelm(string) int {
	// The field manager of Helm's own program: kept, so that both may work on one release.
	kube.ManagedFieldsManager = "helm"
	command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
	if err != nil {
		slog.Warn("helm failed to start", "error", err)
		return 1
	}
	err = command.Execute()
	var failed helm.CommandError
	if errors.As(err, &failed) {
		return failed.ExitCode
	}
	if err != nil {
		return 1
	}
	return 0
}

func main() {
	name := filepath.Base(os.Args[0])
	if _, known := programs[name]; !known && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	program, known := programs[name]
	if !known {
		names := make([]string, 0, len(programs))
		for each := range programs {
			names = append(names, each)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: kubernetes NAME [ARGUMENT...], NAME one of: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(program(name))
}
