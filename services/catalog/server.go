package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
)

// server answers the RPCs.
type server struct {
	catalogv1.UnimplementedCatalogServiceServer
	shows programme.Programme
	maps  *seatMaps
}

// ListShows lists the programme.
func (s *server) ListShows(context.Context, *catalogv1.ListShowsRequest) (*catalogv1.ListShowsResponse, error) {
	resp := &catalogv1.ListShowsResponse{Shows: make([]*catalogv1.Show, 0, len(s.shows.Shows))}
	for _, show := range s.shows.Shows {
		resp.Shows = append(resp.Shows, &catalogv1.Show{
			ShowId: show.ID, Title: show.Title, Venue: show.Venue, StartsAt: timestamppb.New(show.StartsAt),
			PriceCents: show.PriceCents, Rows: int32(show.Rows), SeatsPerRow: int32(show.SeatsPerRow),
		})
	}
	return resp, nil
}

// GetSeatMap tells which seats of a show are free.
func (s *server) GetSeatMap(ctx context.Context, req *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error) {
	id := req.GetShowId()
	if _, ok := s.shows.Show(id); !ok {
		return nil, problem.New(codes.NotFound, problem.ShowUnknown, "there is no show %q; ListShows lists those that are", id)
	}
	return s.maps.get(ctx, id)
}
