import Foundation
import Testing
import WALTestKit

/// Money moves between accounts, each a file, by writes that one replica has when they are answered, while primaries are
/// killed and others promoted. None is lost that was answered, and none is made.
@Suite(.hangLimit) struct BankTests {
    /// What a file holds. A transfer is three writes: taken from one account and noted there, added to the other under its
    /// number, crossed out at the first. After a crash between them it is gone on with, and the number keeps it from being
    /// done twice.
    private struct Account: Codable, Equatable {
        var balance: Int
        var outgoing: Transfer?
        var incoming: [Int] = []
    }

    private struct Transfer: Codable, Equatable {
        var number: Int
        var to: Int
        var amount: Int
    }

    private static let accounts = 6
    private static let total = accounts * 100

    private struct Bank {
        let trio: Trio
        /// All of the group: whoever is asked names the primary.
        let target: String

        func write(_ number: Int, _ account: Account) throws -> Bool {
            let file = trio.world.path + "/account"
            try JSONEncoder().encode(account).write(to: URL(fileURLWithPath: file))
            let child = try trio.world.start(
                "sh",
                [
                    "-c", "exec \"$0\" put --durable 1 --timeout 20s \"$1\" \"$2\" < \"$3\"",
                    World.programs + "/walctl",
                    target, "account\(number)", file,
                ])
            return try child.wait() == 0
        }

        func read(_ number: Int) throws -> Account {
            try poll("account \(number)") {
                let outcome = try trio.world.run("walctl", "get", "--primary", target, "account\(number)")
                guard outcome.status == 0 else { return nil }
                return try JSONDecoder().decode(Account.self, from: Data(outcome.output.utf8))
            }
        }

        /// Every transfer that was begun is ended.
        func settle() throws {
            for number in 0..<BankTests.accounts {
                var account = try read(number)
                guard let transfer = account.outgoing else { continue }
                var other = try read(transfer.to)
                if !other.incoming.contains(transfer.number) {
                    other.balance += transfer.amount
                    other.incoming.append(transfer.number)
                    try until("write") { try write(transfer.to, other) }
                }
                account.outgoing = nil
                try until("write") { try write(number, account) }
            }
        }

        /// True when it was answered as done.
        func transfer(_ number: Int, from: Int, to: Int, amount: Int) throws -> Bool {
            var payer = try read(from)
            var payee = try read(to)
            payer.balance -= amount
            payer.outgoing = Transfer(number: number, to: to, amount: amount)
            guard try write(from, payer) else { return false }
            payee.balance += amount
            payee.incoming.append(number)
            guard try write(to, payee) else { return false }
            payer.outgoing = nil
            _ = try write(from, payer)
            return true
        }
    }

    @Test func theSumHoldsAndNothingAcknowledgedIsLost() throws {
        var random = SeededRandom()
        random.announce()
        try withTrio { trio in
            let bank = Bank(trio: trio, target: ["a", "b", "c"].map { trio.address($0) }.joined(separator: ","))
            for number in 0..<Self.accounts { #expect(try bank.write(number, Account(balance: 100))) }
            var leader = "a"
            var done: [(number: Int, to: Int)] = []
            var failovers = 0
            for number in 1...24 {
                let from = random.int(in: 0..<Self.accounts)
                let to = (from + random.int(in: 1..<Self.accounts)) % Self.accounts
                // At any point of the transfer; while nobody leads no write is answered, so another process promotes.
                var failover: Child?
                let node = trio[leader]
                if number % 6 == 0 {
                    let others = ["a", "b", "c"].filter { $0 != leader }.map { trio.address($0) }
                    failover = try trio.world.start(
                        "sh",
                        [
                            "-c", "sleep $1; kill -9 $2; exec \"$0\" promote \"$3\" --candidates \"$4\"",
                            World.programs + "/walctl", "0.\(random.int(in: 100..<400))", "\(node.child.pid)",
                            others.randomElement(using: &random)!, others.joined(separator: ","),
                        ])
                }
                if try bank.transfer(number, from: from, to: to, amount: random.int(in: 1...20)) {
                    done.append((number, to))
                }
                guard let failover else { continue }
                failovers += 1
                #expect(try failover.wait() == 0, "\(failover.errors)")
                _ = try node.child.wait()
                let old = leader
                leader = try poll("leader") {
                    try ["a", "b", "c"].first { try $0 != old && trio.role($0) == "primary" }
                }
                try node.restart()
                try trio.waitForRole("fenced", of: old)
                try trio.world.must("walctl", "rejoin", trio.folder(old))
                try trio.waitForRole("replica", of: old)
                try trio.catchUp(leader)
                try bank.settle()
            }
            try bank.settle()
            let accounts = try (0..<Self.accounts).map { try bank.read($0) }
            #expect(accounts.map(\.balance).reduce(0, +) == Self.total)
            for transfer in done {
                #expect(accounts[transfer.to].incoming.contains(transfer.number), "transfer \(transfer.number) is lost")
            }
            #expect(failovers == 4 && done.count >= 20)
            try trio.expectEqual(leader)
        }
    }
}
