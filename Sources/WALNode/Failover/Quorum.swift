/// How many of a group's replicas must acknowledge, promise or note something, so that nothing that was acknowledged is out of
/// a promotion's sight.
package struct Quorum: Hashable, Sendable {
    /// N: whoever may have acknowledged something.
    package var replicas: Int
    /// A: how many have what was acknowledged. One at least, for a client may ask for that whatever the group does.
    package var acknowledgements: Int

    package init(replicas: Int, needed: Int) {
        self.replicas = replicas
        acknowledgements = min(max(1, needed), replicas)
    }

    /// Any N - A + 1 have among them one that holds it; and more than half, so that no two epochs of one number can begin.
    package var promises: Int { max(replicas - acknowledgements + 1, replicas / 2 + 1) }

    /// Where the primary gives the lead away nothing is lost, but no other promotion may be under way: one of those who
    /// promise must be among those whom that one needs.
    package var plannedPromises: Int { replicas - promises + 1 }

    /// So many must have noted that the group has become another, before that counts: any N - A + 1 of them, which is how
    /// many any promotion by the old group needs at least, have among them one that knows the new one, and asks its members.
    package var notes: Int { acknowledgements }
}
