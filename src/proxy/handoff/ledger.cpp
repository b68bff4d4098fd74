#include "proxy/handoff/ledger.hpp"

#include <utility>

namespace penstock::handoff {

lease::lease(lease&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), at_(other.at_), spent_(other.spent_) {}

lease& lease::operator=(lease&& other) noexcept {
  if (this == &other) return *this;
  close(spent_ ? closing::lapsed : closing::expired);
  owner_ = std::exchange(other.owner_, nullptr);
  at_ = other.at_;
  spent_ = other.spent_;
  return *this;
}

lease::~lease() { close(spent_ ? closing::lapsed : closing::expired); }

bool lease::fresh(instant now) const {
  if (owner_ == nullptr || spent_) return false;
  const ledger::entry& e = owner_->entries_[at_];
  return now < e.since + (e.until - e.since) / 2;
}

instant lease::latest() const {
  if (owner_ == nullptr) return never;
  const ledger::entry& e = owner_->entries_[at_];
  return e.since + (e.until - e.since) / 4 * 3;
}

void lease::spend() { spent_ = true; }

void lease::close(closing how) {
  if (owner_ == nullptr) return;
  ledger& from = *std::exchange(owner_, nullptr);
  from.entries_[at_].open = false;
  from.free_.push_back(at_);
  --from.open_;
  ++from.closed_[static_cast<std::size_t>(how)];
}

lease ledger::open(endpoint_id holder, endpoint_id reader, std::uint64_t tokens, instant since,
                   duration length) {
  lease l;
  l.owner_ = this;
  if (free_.empty()) {
    l.at_ = static_cast<std::uint32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    l.at_ = free_.back();
    free_.pop_back();
  }
  entries_[l.at_] = {.holder = holder,
                     .reader = reader,
                     .since = since,
                     .until = since + length,
                     .tokens = tokens,
                     .open = true};
  ++open_;
  ++opened_;
  return l;
}

std::vector<ledger::entry> ledger::held() const {
  std::vector<entry> out;
  for (const entry& e : entries_)
    if (e.open) out.push_back(e);
  return out;
}

}  // namespace penstock::handoff
