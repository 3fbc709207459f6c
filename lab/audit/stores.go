package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/keyspace"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// scanBatch is how many keys Redis looks at in one step, and how many records
// are fetched in one round trip: small enough not to hold up the mesh.
const scanBatch = 1000

// Stores are the stores of a mesh. The bank is asked through its RPC: it stands
// for a third party, whose journal nobody else may read.
type Stores struct {
	Redis     *redis.Client
	JetStream jetstream.JetStream
	Bank      bankv1.BankServiceClient

	close []func() error
}

// Open connects to the stores of the mesh that engine runs. Close them after.
func Open(ctx context.Context, engine enginev1.EngineServiceClient) (*Stores, error) {
	info, err := engine.GetInfo(ctx, &enginev1.GetInfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the engine where the stores are: %w", err)
	}
	bank, err := bankAddress(ctx, engine)
	if err != nil {
		return nil, err
	}
	s := &Stores{}
	s.Redis = redis.NewClient(&redis.Options{Addr: info.GetRedisAddress(), DisableIdentity: true})
	s.close = append(s.close, s.Redis.Close)
	nc, err := nats.Connect(info.GetNatsUrl(), nats.Name("spillway audit"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to NATS at %s: %w", info.GetNatsUrl(), err), s.Close())
	}
	s.close = append(s.close, func() error { nc.Close(); return nil })
	if s.JetStream, err = jetstream.New(nc); err != nil {
		return nil, errors.Join(fmt.Errorf("use JetStream at %s: %w", info.GetNatsUrl(), err), s.Close())
	}
	conn, err := grpc.NewClient("passthrough:///"+bank, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial the bank at %s: %w", bank, err), s.Close())
	}
	s.close = append(s.close, conn.Close)
	s.Bank = bankv1.NewBankServiceClient(conn)
	return s, nil
}

// bankAddress waits for the bank to be ready for as long as ctx lets it.
func bankAddress(ctx context.Context, engine enginev1.EngineServiceClient) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := engine.WatchEndpoints(ctx, &enginev1.WatchEndpointsRequest{Service: "bank"})
	if err != nil {
		return "", fmt.Errorf("ask the engine where the bank is: %w", err)
	}
	for {
		list, err := watch.Recv()
		if err != nil {
			return "", fmt.Errorf("wait for a ready replica of bank (see `spillway ps`): %w", err)
		}
		if addresses := list.GetAddresses(); len(addresses) > 0 {
			return addresses[0], nil
		}
	}
}

// Close lets go of every connection.
func (s *Stores) Close() error {
	var errs []error
	for _, c := range s.close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Read takes a snapshot. What came last in a purchase is read first: by the
// time that an order is read, what it led to has been.
func (s *Stores) Read(ctx context.Context) (*Snapshot, error) {
	snap := &Snapshot{At: time.Now()}
	for _, step := range []struct {
		what string
		read func(context.Context, *Snapshot) error
	}{
		{"tickets from JetStream", s.readTickets},
		{"the bank's books", s.readBank},
		{"payments from Redis", s.readPayments},
		{"holds from Redis", s.readHolds},
		{"seats from Redis", s.readShows},
		{"orders from JetStream", s.readOrders},
	} {
		if err := step.read(ctx, snap); err != nil {
			return nil, fmt.Errorf("read %s: %w", step.what, err)
		}
	}
	return snap, nil
}

func (s *Stores) readBank(ctx context.Context, snap *Snapshot) error {
	stream, err := s.Bank.ListTransactions(ctx, &bankv1.ListTransactionsRequest{})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		snap.Transactions = append(snap.Transactions, resp.GetTransaction())
	}
}

func (s *Stores) readTickets(ctx context.Context, snap *Snapshot) error {
	return s.bucket(ctx, keyspace.TicketsBucket, func(key string, value []byte) {
		t := &ticketingv1.Ticket{}
		if !decode(value, t) || t.GetOrderId() != key {
			snap.Unreadable = append(snap.Unreadable, keyspace.TicketsBucket+"/"+key)
			return
		}
		snap.Tickets = append(snap.Tickets, t)
	})
}

func (s *Stores) readOrders(ctx context.Context, snap *Snapshot) error {
	return s.bucket(ctx, keyspace.OrdersBucket, func(key string, value []byte) {
		o := &orderv1.Order{}
		if !decode(value, o) || o.GetOrderId() != key {
			snap.Unreadable = append(snap.Unreadable, keyspace.OrdersBucket+"/"+key)
			return
		}
		snap.Orders = append(snap.Orders, o)
	})
}

// bucket calls f with the latest value of every key.
func (s *Stores) bucket(ctx context.Context, name string, f func(key string, value []byte)) error {
	kv, err := s.JetStream.KeyValue(ctx, name)
	if err != nil {
		return fmt.Errorf("bucket %q: %w", name, err)
	}
	watch, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("bucket %q: %w", name, err)
	}
	defer watch.Stop()
	for {
		select {
		case entry, open := <-watch.Updates():
			if !open {
				return fmt.Errorf("bucket %q: the connection to NATS was lost", name)
			}
			if entry == nil { // every key has been seen
				return nil
			}
			f(entry.Key(), entry.Value())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Stores) readPayments(ctx context.Context, snap *Snapshot) error {
	return s.scan(ctx, keyspace.PaymentPrefix+"*", func(ctx context.Context, keys []string) error {
		values, err := s.Redis.MGet(ctx, keys...).Result()
		if err != nil {
			return err
		}
		for i, v := range values {
			text, ok := v.(string)
			if v == nil {
				continue // gone since it was listed
			}
			p := &paymentv1.Payment{}
			if !ok || !decode([]byte(text), p) || keyspace.Payment(p.GetPaymentId()) != keys[i] {
				snap.Unreadable = append(snap.Unreadable, keys[i])
				continue
			}
			snap.Payments = append(snap.Payments, p)
		}
		return nil
	})
}

func (s *Stores) readHolds(ctx context.Context, snap *Snapshot) error {
	return s.scan(ctx, keyspace.InventoryPrefix+"*", func(ctx context.Context, keys []string) error {
		var names []string
		pipe := s.Redis.Pipeline()
		var hashes []*redis.MapStringStringCmd
		for _, key := range keys {
			if _, _, ok := keyspace.HoldOf(key); ok {
				names = append(names, key)
				hashes = append(hashes, pipe.HGetAll(ctx, key))
			}
		}
		if len(names) == 0 {
			return nil
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for i, cmd := range hashes {
			if len(cmd.Val()) == 0 {
				continue // gone since it was listed
			}
			h, ok := hold(names[i], cmd.Val())
			if !ok {
				snap.Unreadable = append(snap.Unreadable, names[i])
				continue
			}
			snap.Holds = append(snap.Holds, h)
		}
		return nil
	})
}

// hold decodes the hash of a hold. A hold that was released before it was made
// has a state and nothing else.
func hold(key string, fields map[string]string) (Hold, bool) {
	show, id, _ := keyspace.HoldOf(key)
	h := Hold{Show: show, ID: id, State: fields[keyspace.HoldState]}
	switch h.State {
	case keyspace.HoldHeld, keyspace.HoldConfirmed, keyspace.HoldExpired:
	case keyspace.HoldReleased:
		if fields[keyspace.HoldSeats] == "" {
			return h, true
		}
	default:
		return h, false
	}
	for text := range strings.SplitSeq(fields[keyspace.HoldSeats], ",") {
		seat, err := strconv.Atoi(text)
		if err != nil || seat < 0 {
			return h, false
		}
		h.Seats = append(h.Seats, seat)
	}
	ms, err := strconv.ParseInt(fields[keyspace.HoldExpires], 10, 64)
	if err != nil {
		return h, false
	}
	h.Expires = time.UnixMilli(ms)
	h.AmountCents, err = strconv.ParseInt(fields[keyspace.HoldAmount], 10, 64)
	return h, err == nil
}

// readShows reads the bitmap and the expiring set of every show that has either
// or a hold.
func (s *Stores) readShows(ctx context.Context, snap *Snapshot) error {
	ids := make(map[string]bool)
	for _, h := range snap.Holds {
		ids[h.Show] = true
	}
	err := s.scan(ctx, keyspace.InventoryPrefix+"*}:taken", func(_ context.Context, keys []string) error {
		for _, key := range keys {
			id := strings.TrimSuffix(strings.TrimPrefix(key, keyspace.InventoryPrefix+"{"), "}:taken")
			if keyspace.InventoryTaken(id) == key {
				ids[id] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id := range ids {
		pipe := s.Redis.TxPipeline()
		taken := pipe.Get(ctx, keyspace.InventoryTaken(id))
		expiring := pipe.ZRange(ctx, keyspace.InventoryExpiring(id), 0, -1)
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) { // Nil: no bitmap yet
			return err
		}
		show := Show{ID: id, Taken: []byte(taken.Val()), Expiring: make(map[string]bool)}
		for _, hold := range expiring.Val() {
			show.Expiring[hold] = true
		}
		snap.Shows = append(snap.Shows, show)
	}
	return nil
}

// scan calls f with the keys that match, a batch at a time, each key once.
func (s *Stores) scan(ctx context.Context, pattern string, f func(ctx context.Context, keys []string) error) error {
	seen := make(map[string]bool) // SCAN may return a key more than once
	var cursor uint64
	for {
		keys, next, err := s.Redis.Scan(ctx, cursor, pattern, scanBatch).Result()
		if err != nil {
			return err
		}
		fresh := keys[:0]
		for _, key := range keys {
			if !seen[key] {
				seen[key] = true
				fresh = append(fresh, key)
			}
		}
		if len(fresh) > 0 {
			if err := f(ctx, fresh); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// decode reads protojson. Fields that a newer service writes are no fault.
func decode(text []byte, m proto.Message) bool {
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(text, m) == nil
}
