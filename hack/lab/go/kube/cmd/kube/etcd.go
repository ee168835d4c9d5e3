package main

import (
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// newEtcdCommand is a single-member etcd on plain HTTP, for a namespace in which nobody else listens.
// Its data need not outlive a crash of the machine, only of the process: it does not fsync.
func newEtcdCommand() *cobra.Command {
	var dataDir, client, peer string
	command := &cobra.Command{
		Use:           "etcd",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return runEtcd(dataDir, client, peer) },
	}
	command.Flags().StringVar(&dataDir, "data-dir", "", "where the data lies")
	command.Flags().StringVar(&client, "listen-client-url", "http://127.0.0.1:2379", "where clients connect")
	command.Flags().StringVar(&peer, "listen-peer-url", "http://127.0.0.1:2380", "where peers would connect")
	return command
}

func runEtcd(dataDir, client, peer string) error {
	config, err := etcdConfig(dataDir, client, peer)
	if err != nil {
		return err
	}
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		return nil
	case err := <-server.Err():
		return err
	}
}

func etcdConfig(dataDir, client, peer string) (*embed.Config, error) {
	clientURL, err := url.Parse(client)
	if err != nil {
		return nil, err
	}
	peerURL, err := url.Parse(peer)
	if err != nil {
		return nil, err
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.Name = "lab"
	config.UnsafeNoFsync = true
	config.LogLevel = "warn"
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clientURL}, []url.URL{*clientURL}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peerURL}, []url.URL{*peerURL}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	return config, nil
}
