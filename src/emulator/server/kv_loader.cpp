#include "emulator/server/kv_loader.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "emulator/server/kv_peer.hpp"

namespace penstock::emulator {
namespace asio = boost::asio;
using boost::system::error_code;

kv_load::kv_load(kv_loader& loader, const hand_off_leg& leg, std::uint32_t index, done_call done)
    : loader_(loader),
      engine_(leg.remote_engine),
      id_(leg.ids.at(index)),
      blocks_(leg.blocks),
      waits_(leg.waits),
      done_(std::move(done)),
      peer_(loader.peer(leg.remote_host, leg.remote_port)),
      tag_(loader.next_tag_++),
      timer_(loader.context_),
      patience_(loader.context_) {
  peer_->join(*this);
  if (!waits_) return;
  patience_.expires_after(partner_timeout_of(loader.options_));
  patience_.async_wait([this, alive = std::weak_ptr<bool>(alive_)](error_code ec) {
    if (!ec && !alive.expired() && !content_) give_up();
  });
}

kv_load::~kv_load() {
  if (over_) return;
  peer_->leave(*this);
  peer_->say(engine_, "abort " + id_);
}

// Another engine than the one that did the prefill: it was restarted, or the proxy mixed them up.
void kv_load::contacted() {
  if (!engine_.empty() && peer_->engine_id() != engine_) return fail();
  peer_->say(engine_, waits_ ? fmt::format("await {} {}", tag_, id_)
                             : fmt::format("read {} {} {}", tag_, fmt::join(blocks_, ","), id_));
}

// The other leg did not come.
void kv_load::give_up() {
  peer_->say(engine_, "abort " + id_);
  fail();
}

void kv_load::content(std::uint64_t what) {
  content_ = what;
  if (tokens_ > 0) move();
}

void kv_load::need(std::uint32_t tokens, double slower) {
  tokens_ = tokens;
  slower_ = slower;
  if (content_) move();
}

void kv_load::move() {
  const instant now = loader_.core_.now();
  const instant there = loader_.link_.transfer(tokens_, now, slower_);
  timer_.expires_at(loader_.core_.clock_of(there));
  timer_.async_wait([this, took = seconds(there - now), alive = std::weak_ptr<bool>(alive_)](error_code ec) {
    if (ec || alive.expired() || over_) return;
    load_counters& c = loader_.counters_;
    ++c.transfers;
    c.bytes += std::uint64_t{tokens_} * loader_.link_.settings().bytes_per_token;
    c.transfer_seconds += took;
    c.post_seconds += seconds(loader_.link_.settings().post);
    peer_->say(engine_, "done " + id_);
    over_ = true;
    peer_->leave(*this);
    report({true, *content_});
  });
}

// The caller may be inside of `done`'s world: it hears of it in a later turn of the loop.
void kv_load::fail() {
  if (std::exchange(over_, true)) return;
  ++loader_.counters_.failed;
  peer_->leave(*this);
  asio::post(loader_.context_, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) report({});
  });
}

void kv_load::report(kv_load_result result) {
  const done_call done = done_;  // it may destroy this
  done(result);
}

kv_loader::kv_loader(asio::io_context& context, engine_core& core, const hand_off_options& options)
    : context_(context), core_(core), options_(options), link_(options.transfer) {}

kv_loader::~kv_loader() { stop(); }

void kv_loader::stop() {
  for (const auto& [address, p] : std::exchange(peers_, {})) p->close();
}

std::shared_ptr<kv_peer> kv_loader::peer(const std::string& host, std::uint16_t port) {
  const std::string address = fmt::format("{}:{}", host, port);
  std::shared_ptr<kv_peer>& p = peers_[address];
  if (p) return p;
  p = std::make_shared<kv_peer>(*this, address);
  const auto kept = p;
  kept->start(host, port);
  return kept;
}

}  // namespace penstock::emulator
