package hedge

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

// spare is where a second attempt puts its answer, so that it never writes
// where the first one does.
type spare struct {
	reply proto.Message
	opts  []grpc.CallOption
	take  []func() // hands on what the options were given
}

// apart makes room for an answer like reply, with options that tell the same
// as opts to places of its own.
func apart(reply proto.Message, opts []grpc.CallOption) spare {
	s := spare{reply: reply.ProtoReflect().New().Interface(), opts: make([]grpc.CallOption, len(opts))}
	for i, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			own := new(metadata.MD)
			opt, s.take = grpc.Header(own), append(s.take, func() { *o.HeaderAddr = *own })
		case grpc.TrailerCallOption:
			own := new(metadata.MD)
			opt, s.take = grpc.Trailer(own), append(s.take, func() { *o.TrailerAddr = *own })
		case grpc.PeerCallOption:
			own := new(peer.Peer)
			opt, s.take = grpc.Peer(own), append(s.take, func() { *o.PeerAddr = *own })
		}
		s.opts[i] = opt
	}
	return s
}

// adopt makes the answer of the second attempt that of the call. The first must
// have ended.
func (s spare) adopt(reply proto.Message) {
	proto.Reset(reply)
	proto.Merge(reply, s.reply)
	for _, take := range s.take {
		take()
	}
}
