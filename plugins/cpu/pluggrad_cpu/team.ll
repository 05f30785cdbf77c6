; The native thread team (Linux): what a caller and its workers do between kernels. threads.py holds the Python side
; and fills in what differs between machines: {{futex}}, the system call's number, and {{pause}}, a spin-wait hint;
; {{spins}} is how many of those a thread waits before it sleeps.
;
; A parallel command is offered, not assigned. The caller opens the gate and takes chunks of tasks itself; a worker
; that is awake enters, takes chunks from the same counter, and leaves. Once the tasks are gone the caller shuts the
; gate and waits only for those inside, so a worker that slept through a command costs nothing. A worker reads the
; command only while it is inside, and the caller returns only when nobody is: finished lists can be freed.

;                0 bell (futex; rises with each parallel command), 1 workers asleep
;                3 gate (futex): OPEN plus the number of workers inside, 4 the caller sleeps on it
;                6 next task
;                8 kernel, 9 args, 10 values, 11 tasks, 12 chunk, 13 parallel: the command at hand
;                14 list, 15 its position, 16 phase of the command, 17 cancel, 18 stop
; Fields that different threads write lie two cache lines apart: some CPUs fetch lines in pairs.
%Team = type { i32, i32, [120 x i8], i32, i32, [120 x i8], i64, [120 x i8],
               ptr, ptr, ptr, i64, i64, i64, ptr, i64, i32, i32, i32 }
%Time = type { i64, i64 }

@nap = internal constant %Time { i64 0, i64 20000000 }         ; 20 ms: the longest sleep of a caller

declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i64 @llvm.smin.i64(i64, i64)

define internal void @pause() {
  call void asm sideeffect "{{pause}}", ""()
  ret void
}

define internal i64 @now() {
  %time = alloca %Time
  %status = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr inbounds %Time, ptr %time, i64 0, i32 1
  %rest = load i64, ptr %rest.at
  %scaled = mul nsw i64 %seconds, 1000000000
  %nanoseconds = add nsw i64 %scaled, %rest
  ret i64 %nanoseconds
}

; Sleep while the word holds `value`; a null timeout is forever.
define internal void @sleep(ptr %word, i32 %value, ptr %timeout) {
  %status = call i64 (i64, ...) @syscall(i64 {{futex}}, ptr %word, i32 128, i32 %value, ptr %timeout, ptr null, i32 0)
  ret void
}

define internal void @wake(ptr %word, i32 %count) {
  %status = call i64 (i64, ...) @syscall(i64 {{futex}}, ptr %word, i32 129, i32 %count, ptr null, ptr null, i32 0)
  ret void
}

; Run chunks of the command at hand. True: no tasks are left. False: the deadline (0: none) has passed.
define internal i1 @take(ptr %team, i64 %deadline) {
entry:
  %next.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 6
  %kernel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 8
  %kernel = load ptr, ptr %kernel.at
  %args.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 9
  %args = load ptr, ptr %args.at
  %values.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 10
  %values = load ptr, ptr %values.at
  %tasks.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 11
  %tasks = load i64, ptr %tasks.at
  %chunk.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 12
  %chunk = load i64, ptr %chunk.at
  %cancel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 17
  %timed = icmp ne i64 %deadline, 0
  br label %claim

claim:
  %cancel = load atomic i32, ptr %cancel.at monotonic, align 4
  %cancelled = icmp ne i32 %cancel, 0
  br i1 %cancelled, label %gone, label %count

count:
  %lo = atomicrmw add ptr %next.at, i64 %chunk monotonic
  %left = icmp slt i64 %lo, %tasks
  br i1 %left, label %work, label %gone

work:
  %end = add nsw i64 %lo, %chunk
  %hi = call i64 @llvm.smin.i64(i64 %end, i64 %tasks)
  call void %kernel(ptr %args, ptr %values, i64 %lo, i64 %hi)
  br i1 %timed, label %check, label %claim

check:
  %now = call i64 @now()
  %late = icmp sgt i64 %now, %deadline
  br i1 %late, label %pass, label %claim

gone:
  ret i1 true

pass:
  ret i1 false
}

; A worker's life: spin on the bell for a moment, sleep on it, enter an open gate, work, leave. Ends after `stop`.
define void @serve(ptr %team) {
entry:
  %sleepers.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 1
  %gate.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 3
  %waiting.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 4
  %stop.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 18
  br label %idle

idle:
  %seen = phi i32 [ 0, %entry ], [ %bell, %listen ], [ %bell.rung, %enter ], [ %bell.rung, %leave ], [ %bell.rung, %leave.last ]
  br label %spin

spin:
  %turn = phi i32 [ 0, %idle ], [ %turn.next, %spin.on ]
  %bell.spun = load atomic i32, ptr %team acquire, align 4
  %rung.spinning = icmp ne i32 %bell.spun, %seen
  br i1 %rung.spinning, label %rung, label %spin.on

spin.on:
  call void @pause()
  %turn.next = add nuw nsw i32 %turn, 1
  %patient = icmp ult i32 %turn.next, {{spins}}
  br i1 %patient, label %spin, label %drowse

drowse:
  %asleep.before = atomicrmw add ptr %sleepers.at, i32 1 seq_cst
  call void @sleep(ptr %team, i32 %seen, ptr null)
  %asleep.after = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
  br label %listen

listen:
  %bell = load atomic i32, ptr %team acquire, align 4
  %rung.asleep = icmp ne i32 %bell, %seen
  br i1 %rung.asleep, label %rung, label %idle

rung:
  %bell.rung = phi i32 [ %bell.spun, %spin ], [ %bell, %listen ]
  %stop = load atomic i32, ptr %stop.at acquire, align 4
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %end, label %knock

knock:
  %gate.first = load atomic i32, ptr %gate.at monotonic, align 4
  br label %enter

enter:
  %gate = phi i32 [ %gate.first, %knock ], [ %gate.now, %try ]
  %open.bit = and i32 %gate, 65536
  %open = icmp ne i32 %open.bit, 0
  br i1 %open, label %try, label %idle

try:
  %gate.entered = add nuw nsw i32 %gate, 1
  %swap = cmpxchg ptr %gate.at, i32 %gate, i32 %gate.entered acquire monotonic
  %gate.now = extractvalue { i32, i1 } %swap, 0
  %inside = extractvalue { i32, i1 } %swap, 1
  br i1 %inside, label %work, label %enter

work:
  %gone = call i1 @take(ptr %team, i64 0)
  br label %leave

leave:
  %gate.before = atomicrmw sub ptr %gate.at, i32 1 seq_cst
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %awaited = icmp ne i32 %waiting, 0
  %last = icmp eq i32 %gate.before, 1
  %call.caller = and i1 %awaited, %last
  br i1 %call.caller, label %leave.last, label %idle

leave.last:
  call void @wake(ptr %gate.at, i32 1)
  br label %idle

end:
  ret void
}

; End every worker's `serve`.
define void @stop(ptr %team) {
  %stop.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 18
  store atomic i32 1, ptr %stop.at release, align 4
  %bell = atomicrmw add ptr %team, i32 1 seq_cst
  call void @wake(ptr %team, i32 2147483647)
  ret void
}

; Begin a list. 0: it is done. 1: call `resume`.
define i32 @start(ptr %team, ptr %list) {
  %list.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 14
  %position.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 15
  %phase.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 16
  %cancel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 17
  call void @bind(ptr %list)
  store ptr %list, ptr %list.at
  store i64 0, ptr %position.at
  store i32 0, ptr %phase.at
  store i32 0, ptr %cancel.at
  %status = call i32 @resume(ptr %team)
  ret i32 %status
}

; Go on with a list for about 20 ms. 0: it is done, or cancelled with nobody left inside. 1: call again.
define i32 @resume(ptr %team) {
entry:
  %gate.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 3
  %waiting.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 4
  %sleepers.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 1
  %next.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 6
  %kernel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 8
  %tasks.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 11
  %chunk.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 12
  %parallel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 13
  %list.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 14
  %position.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 15
  %phase.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 16
  %cancel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 17
  %start = call i64 @now()
  %deadline = add nsw i64 %start, 20000000
  %phase = load i32, ptr %phase.at
  switch i32 %phase, label %next [ i32 1, label %take
                                   i32 2, label %settle ]

next:
  %cancel = load atomic i32, ptr %cancel.at monotonic, align 4
  %cancelled = icmp ne i32 %cancel, 0
  br i1 %cancelled, label %done, label %more

more:
  %list = load ptr, ptr %list.at
  %records = load ptr, ptr %list
  %count.at = getelementptr inbounds %List, ptr %list, i64 0, i32 1
  %count = load i64, ptr %count.at
  %position = load i64, ptr %position.at
  %left = icmp ult i64 %position, %count
  br i1 %left, label %begin, label %done

begin:
  %record = getelementptr inbounds %Record, ptr %records, i64 %position
  call void @llvm.memcpy.p0.p0.i64(ptr align 8 %kernel.at, ptr align 8 %record, i64 48, i1 false)
  store i64 0, ptr %next.at
  store i32 1, ptr %phase.at
  %position.next = add nuw nsw i64 %position, 1
  store i64 %position.next, ptr %position.at
  %is.parallel = load i64, ptr %parallel.at
  %offered = icmp ne i64 %is.parallel, 0
  br i1 %offered, label %offer, label %take

offer:
  store atomic i32 65536, ptr %gate.at seq_cst, align 4
  %bell = atomicrmw add ptr %team, i32 1 seq_cst
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %any.asleep = icmp ne i32 %sleepers, 0
  br i1 %any.asleep, label %ring, label %take

ring:                                                    ; one worker for each chunk that the caller does not take
  %tasks = load i64, ptr %tasks.at
  %chunk = load i64, ptr %chunk.at
  %others = sub nsw i64 %tasks, 1
  %useful = sdiv i64 %others, %chunk
  %few = call i64 @llvm.smin.i64(i64 %useful, i64 65535)
  %wanted = trunc i64 %few to i32
  call void @wake(ptr %team, i32 %wanted)
  br label %take

take:
  %gone = call i1 @take(ptr %team, i64 %deadline)
  br i1 %gone, label %taken, label %again

taken:
  %was.parallel = load i64, ptr %parallel.at
  %shared = icmp ne i64 %was.parallel, 0
  br i1 %shared, label %shut, label %finished

shut:
  store i32 2, ptr %phase.at
  %gate.open = atomicrmw and ptr %gate.at, i32 65535 seq_cst
  br label %settle

settle:
  %turn = phi i32 [ 0, %entry ], [ 0, %shut ], [ %turn.next, %settle.spin ]
  %inside = load atomic i32, ptr %gate.at acquire, align 4
  %empty = icmp eq i32 %inside, 0
  br i1 %empty, label %finished, label %settle.spin

settle.spin:
  call void @pause()
  %turn.next = add nuw nsw i32 %turn, 1
  %patient = icmp ult i32 %turn.next, {{spins}}
  br i1 %patient, label %settle, label %doze

doze:
  store atomic i32 1, ptr %waiting.at seq_cst, align 4
  %inside.now = load atomic i32, ptr %gate.at seq_cst, align 4
  %empty.now = icmp eq i32 %inside.now, 0
  br i1 %empty.now, label %awake, label %doze.on

doze.on:
  call void @sleep(ptr %gate.at, i32 %inside.now, ptr @nap)
  br label %awake

awake:
  store atomic i32 0, ptr %waiting.at seq_cst, align 4
  %gate.after = load atomic i32, ptr %gate.at acquire, align 4
  %settled = icmp eq i32 %gate.after, 0
  br i1 %settled, label %finished, label %patience

patience:
  %now = call i64 @now()
  %late = icmp sgt i64 %now, %deadline
  br i1 %late, label %again, label %doze

finished:
  store i32 0, ptr %phase.at
  br label %next

done:
  ret i32 0

again:
  ret i32 1
}
