#include "routing/pair_book.hpp"

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr duration avoid_for = std::chrono::seconds(60);
constexpr double fade = 0.98;
// What a sample above the line weighs where nobody tells whether it waited for the engine, as a request that
// the engine serves alone would have, or for the bytes.
constexpr double late_share = 0.1;
// Until the first hand-off taught better: 128 KiB a token (a model of 70 billion parameters in FP8) at 10
// GB/s, and two steps of a decode engine.
constexpr double default_base = 0.04, default_slope = 13e-6;
// The share of a handshake that the request which pays for it is charged with.
constexpr double handshake_share = 0.1;
constexpr double handshake_memory = 0.3;
// Pairs that are remembered; engines that come and go leave theirs behind.
constexpr std::size_t most_pairs = 16384;

}  // namespace

void transfer_line::learn(double tokens, double seconds, bool crowded) {
  const bool late = known() && seconds > estimate(tokens);
  if (late && crowded) return;
  const double weight = late ? late_share : 1;
  const double kept = 1 - weight * (1 - fade);
  weight_ = weight_ * kept + weight;
  x_ = x_ * kept + weight * tokens;
  y_ = y_ * kept + weight * seconds;
  xx_ = xx_ * kept + weight * tokens * tokens;
  xy_ = xy_ * kept + weight * tokens * seconds;
}

void transfer_line::add(const transfer_line& other) {
  weight_ += other.weight_;
  x_ += other.x_;
  y_ += other.y_;
  xx_ += other.xx_;
  xy_ += other.xy_;
}

double transfer_line::estimate(double tokens) const {
  const double spread = weight_ * xx_ - x_ * x_;
  const double mean = y_ / weight_;
  // Equal lengths say nothing of a slope: short of a spread of a few per cent the mean stands for all.
  double slope = spread > 0.002 * weight_ * xx_ ? (weight_ * xy_ - x_ * y_) / spread : 0;
  slope = std::max(slope, 0.0);
  const double base = std::max(mean - slope * x_ / weight_, 0.0);
  return base + slope * tokens;
}

std::uint64_t pair_book::key(endpoint_id p, endpoint_id d) {
  return std::uint64_t{p.slot} << 48 | std::uint64_t{p.generation} << 32 | std::uint64_t{d.slot} << 16 |
         d.generation;
}

const pair_book::pair* pair_book::find(endpoint_id prefill, endpoint_id decode) const {
  const auto found = pairs_.find(key(prefill, decode));
  return found == pairs_.end() ? nullptr : &found->second;
}

pair_book::pair& pair_book::at(endpoint_id prefill, endpoint_id decode) {
  if (pairs_.size() >= most_pairs) pairs_.clear();
  return pairs_[key(prefill, decode)];
}

void pair_book::failed(endpoint_id prefill, endpoint_id decode, instant now) {
  pair& p = at(prefill, decode);
  p.avoided_until = now + avoid_for;
  p.connected = false;
}

bool pair_book::avoided(endpoint_id prefill, endpoint_id decode, instant now) const {
  const pair* p = find(prefill, decode);
  return p != nullptr && now < p->avoided_until;
}

bool pair_book::connected(endpoint_id prefill, endpoint_id decode) const {
  const pair* p = find(prefill, decode);
  return p != nullptr && p->connected;
}

void pair_book::handed_over(endpoint_id prefill, endpoint_id decode, std::uint64_t tokens, duration took,
                            bool crowded) {
  pair& p = at(prefill, decode);
  const double s = penstock::seconds(took), n = static_cast<double>(tokens);
  if (!p.connected) {
    // What the first contact took beyond a usual transfer was the handshake.
    p.connected = true;
    p.avoided_until = instant{};
    if (crowded) return;
    const double usual = all_.known() ? all_.estimate(n) : default_base + default_slope * n;
    ++handshakes_;
    handshake_ += handshake_memory * (std::max(s - usual, 0.0) - handshake_);
    return;
  }
  p.line.learn(n, s, crowded);
  all_.learn(n, s, crowded);
}

double pair_book::transfer(const pair* p, double tokens) const {
  if (p != nullptr && p->line.known()) return p->line.estimate(tokens);
  return all_.known() ? all_.estimate(tokens) : default_base + default_slope * tokens;
}

double pair_book::seconds(endpoint_id prefill, endpoint_id decode, std::uint64_t tokens) const {
  const pair* p = find(prefill, decode);
  const double first = p != nullptr && p->connected ? 0 : handshake_ * handshake_share;
  return first + transfer(p, static_cast<double>(tokens));
}

std::vector<pair_book::standing> pair_book::standings() const {
  std::vector<standing> out;
  out.reserve(pairs_.size());
  for (const auto& [key, p] : pairs_) {
    const auto part = [key = key](unsigned shift) { return static_cast<std::uint16_t>(key >> shift); };
    standing one{.prefill = {part(48), part(32)},
                 .decode = {part(16), part(0)},
                 .connected = p.connected,
                 .learned = p.line.known(),
                 .avoided_until = p.avoided_until,
                 .base = transfer(&p, 0)};
    constexpr double many = 1000;
    one.slope = (transfer(&p, many) - one.base) / many;
    out.push_back(one);
  }
  std::sort(out.begin(), out.end(), [](const standing& a, const standing& b) {
    return a.prefill.slot != b.prefill.slot ? a.prefill.slot < b.prefill.slot : a.decode.slot < b.decode.slot;
  });
  return out;
}

void pair_book::add(const pair_book& other) {
  for (const auto& [key, theirs] : other.pairs_) {
    if (pairs_.size() >= most_pairs) break;
    pair& ours = pairs_[key];
    ours.connected |= theirs.connected;
    ours.avoided_until = std::max(ours.avoided_until, theirs.avoided_until);
    ours.line.add(theirs.line);
  }
  all_.add(other.all_);
  if (other.handshakes_ == 0) return;
  const auto mine = static_cast<double>(handshakes_), seen = static_cast<double>(other.handshakes_);
  handshake_ = (handshake_ * mine + other.handshake_ * seen) / (mine + seen);
  handshakes_ += other.handshakes_;
}

}  // namespace penstock::routing
