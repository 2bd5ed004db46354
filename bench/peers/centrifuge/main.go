// The benchmark's rooms as a team writes them with the library that Centrifugo is made of.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/centrifugal/centrifuge"
	"github.com/golang-jwt/jwt/v5"
)

// roomsOfConnection is the number of rooms that one connection may be in. The other servers set no limit.
const roomsOfConnection = 100_000

func main() {
	node, err := centrifuge.New(centrifuge.Config{ClientChannelLimit: roomsOfConnection})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(authenticate([]byte(os.Getenv("JWT_SECRET"))))
	node.OnConnect(handle)
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}

	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize:     1024,
		UseWriteBufferPool: true,
	}))
	server := &http.Server{Addr: net.JoinHostPort("127.0.0.1", os.Getenv("PORT"))}
	ending, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() {
		<-ending.Done()
		_ = node.Shutdown(context.Background())
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// authenticate lets in whoever has a token, and subscribes them to their own channel.
func authenticate(secret []byte) centrifuge.ConnectingHandler {
	key := func(*jwt.Token) (any, error) { return secret, nil }
	return func(_ context.Context, event centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		var claims jwt.RegisteredClaims
		_, err := jwt.ParseWithClaims(event.Token, &claims, key, jwt.WithValidMethods([]string{"HS256"}))
		if err != nil || claims.Subject == "" {
			return centrifuge.ConnectReply{}, centrifuge.DisconnectInvalidToken
		}
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: claims.Subject},
			Subscriptions: map[string]centrifuge.SubscribeOptions{"user:" + claims.Subject: {}},
		}, nil
	}
}

// handle lets a client subscribe to every channel and publish to it, and answers `echo`.
func handle(client *centrifuge.Client) {
	client.OnSubscribe(func(_ centrifuge.SubscribeEvent, callback centrifuge.SubscribeCallback) {
		callback(centrifuge.SubscribeReply{}, nil)
	})
	client.OnPublish(func(_ centrifuge.PublishEvent, callback centrifuge.PublishCallback) {
		callback(centrifuge.PublishReply{}, nil)
	})
	client.OnRPC(func(event centrifuge.RPCEvent, callback centrifuge.RPCCallback) {
		if event.Method != "echo" {
			callback(centrifuge.RPCReply{}, centrifuge.ErrorMethodNotFound)
			return
		}
		callback(centrifuge.RPCReply{Data: event.Data}, nil)
	})
}
