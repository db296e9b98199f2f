;;; rlm-e2e-test.el --- Tests of rlm with a real server  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; Each test starts a server of its own, with the embedded model or with
;; one that follows a script, and asks it real questions.

;;; Code:

(require 'rlm-test-lib)
(require 'bookmark)
(require 'desktop)

(defun rlm-test-tree ()
  "Make a small tree in the test's directory and return its name."
  (rlm-test-file "tree/harbour.txt" "The harbour is old.\nThe lighthouse keeper is called Odalys.\n")
  (rlm-test-file "tree/docs/boats.txt" "Boats are painted green.\nThey leave at dawn.\n")
  (rlm-test-file "tree/.gitignore" "*.log\n")
  (rlm-test-file "tree/old.log" "The lighthouse keeper is called Nobody.\n")
  (rlm-test-file "tree/"))

(defconst rlm-test-keeper "What is the lighthouse keeper called?"
  "A question to which the tree of `rlm-test-tree' has the answer.")

(defun rlm-test-evidence (run)
  "Return the evidence of RUN as a list of file and line."
  (mapcar (lambda (place) (list (nth 0 place) (nth 1 place))) (rlm-run-evidence run)))

(defun rlm-test-should-be-done (run)
  "Fail unless RUN was answered."
  (should (equal '("done" nil) (list (rlm-run-status run)
                                     (unless (equal (rlm-run-status run) "done")
                                       (rlm-run-reason run))))))

;;;; Asking

(ert-deftest rlm-e2e-directory-is-answered-with-evidence ()
  (rlm-test-with
    (let* ((tree (rlm-test-tree))
           (buffer (rlm-ask-files rlm-test-keeper (list tree)))
           (run (rlm-test-wait-end buffer)))
      (rlm-test-should-be-done run)
      (should (string-match-p "Odalys" (rlm-run-answer run)))
      (should-not (string-match-p "Nobody" (rlm-run-answer run)))
      (should (member (list (concat tree "harbour.txt") 2) (rlm-test-evidence run)))
      (should (string-match-p "^Left out: 1 ignored" (rlm-test-buffer-text buffer)))
      (let ((text (rlm-test-text (rlm-run-transcript run))))
        (dolist (regexp '("^\\* What is the lighthouse" "^:RLM_RUN: [-0-9a-f]+$"
                          "^:RLM_MODEL: offline/extractive$" "^:RLM_STATUS: done$"
                          "^:RLM_TOKENS: [1-9]" "^:RLM_COST: 0$" "^:RLM_SECONDS: [0-9.]+$"
                          "^\\*\\* Iteration 1" "^#\\+begin_src python$" "^#\\+RESULTS:$"
                          "^\\*\\* Answer$" "^\\*\\*\\* Evidence$"
                          "^- \\[\\[file:/[^]]*/harbour\\.txt::2\\]\\[.*harbour\\.txt:2\\]\\]"))
          (should (string-match-p regexp text))))
      (should (file-exists-p (rlm-run-log run))))))

(ert-deftest rlm-e2e-region-with-unsaved-edits ()
  (rlm-test-with
    (let ((file (rlm-test-file "notes.txt" "first\nsecond\nthird\n")))
      (with-current-buffer (find-file-noselect file)
        (goto-char (point-min))
        (forward-line 1)
        (let ((beg (point)))
          (insert "The keeper is called Imre, unsaved.\n")
          (let ((run (rlm-test-wait-end
                      (rlm-ask-region "What is the keeper called?" beg (point-max)))))
            (rlm-test-should-be-done run)
            (should (string-match-p "Imre" (rlm-run-answer run)))
            (should-not (string-match-p "^first" (rlm-run-answer run)))
            (should (member (list file 2) (rlm-test-evidence run)))
            (should (buffer-modified-p (get-file-buffer file)))))))
    (should (directory-empty-p temporary-file-directory))))

(ert-deftest rlm-e2e-buffer-without-a-file ()
  (rlm-test-with
    (with-current-buffer (generate-new-buffer "*a note*")
      (insert "nothing\nThe keeper is called Ulla.\n")
      (let* ((buffer (rlm-ask-buffer "What is the keeper called?"))
             (run (rlm-test-wait-end buffer)))
        (rlm-test-should-be-done run)
        (should (member (list "rlm-buffer:*a note*" 2) (rlm-test-evidence run)))
        (switch-to-buffer buffer)
        (goto-char (point-min))
        (re-search-forward "^- a-note:2")
        (rlm-trajectory-follow-link)
        (should (equal "*a note*" (buffer-name)))
        (should (looking-at "The keeper"))))))

(ert-deftest rlm-e2e-project-with-unsaved-edits ()
  (rlm-test-with
    (let* ((tree (rlm-test-tree))
           (file (concat tree "docs/boats.txt")))
      (with-current-buffer (find-file-noselect file)
        (goto-char (point-max))
        (insert "The lighthouse keeper is called Wilma since today.\n")
        (let ((run (rlm-test-wait-end (rlm-ask-project rlm-test-keeper tree))))
          (rlm-test-should-be-done run)
          (should (string-match-p "Wilma" (rlm-run-answer run)))
          (should (member (list file 3) (rlm-test-evidence run))))))
    (should (directory-empty-p temporary-file-directory))))

(ert-deftest rlm-e2e-dired-marks ()
  (rlm-test-with
    (let ((tree (rlm-test-tree)))
      (with-current-buffer (dired-noselect tree)
        (dired-goto-file (concat tree "docs"))
        (dired-mark 1)
        (let ((run (rlm-test-wait-end (rlm-ask-dired "When do the boats leave?"))))
          (rlm-test-should-be-done run)
          (should (member (list (concat tree "docs/boats.txt") 2) (rlm-test-evidence run)))
          (should-not (string-match-p "Odalys" (rlm-run-answer run))))))))

(ert-deftest rlm-e2e-two-runs-at-once ()
  (rlm-test-with
    (let* ((tree (rlm-test-tree))
           (one (rlm-ask-files rlm-test-keeper (list (concat tree "harbour.txt"))))
           (two (rlm-ask-files "When do the boats leave?" (list (concat tree "docs"))))
           (run-one (rlm-test-wait-end one))
           (run-two (rlm-test-wait-end two)))
      (rlm-test-should-be-done run-one)
      (rlm-test-should-be-done run-two)
      (should (string-match-p "Odalys" (rlm-run-answer run-one)))
      (should-not (string-match-p "dawn" (rlm-run-answer run-one)))
      (should (string-match-p "dawn" (rlm-run-answer run-two)))
      (should-not (equal (rlm-run-transcript run-one) (rlm-run-transcript run-two))))))

;;;; What goes wrong

(ert-deftest rlm-e2e-unknown-model-lists-those-there-are ()
  (rlm-test-with
    (let* ((rlm-root-model "nonsense")
           (buffer (rlm-ask-files "What?" (list (rlm-test-tree))))
           (run (rlm-test-wait-end buffer)))
      (should (equal "failed" (rlm-run-status run)))
      (should (string-match-p "offline/extractive" (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-e2e-bad-configuration-is-told ()
  (rlm-test-with
    (rlm-test-file "config.toml" "root = [nonsense\n")
    (let* ((buffer (rlm-ask-files "What?" (list (rlm-test-tree)))))
      (rlm-test-wait-end buffer)
      (should (string-match-p "config\\.toml" (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-e2e-file-gone-meanwhile-is-told ()
  (rlm-test-with
    (let* ((tree (rlm-test-tree))
           (gone (concat tree "harbour.txt"))
           (context (rlm-context-of-files (list gone (concat tree "docs")) "x")))
      (delete-file gone)
      (let* ((buffer (rlm-ask-about "When do the boats leave?" context))
             (run (rlm-test-wait-end buffer)))
        (rlm-test-should-be-done run)
        (should (string-match-p "^Left out: 1 gone" (rlm-test-buffer-text buffer)))))))

(ert-deftest rlm-e2e-unwritable-transcripts-lose-nothing ()
  (rlm-test-with
    (let* ((rlm-transcript-directory (rlm-test-file "file/below/" nil))
           (buffer (progn (rlm-test-file "file" "")
                          (rlm-ask-files rlm-test-keeper (list (rlm-test-tree)))))
           (run (rlm-test-wait-end buffer)))
      (rlm-test-should-be-done run)
      (should-not (rlm-run-transcript run))
      (should (string-match-p "Odalys" (rlm-test-buffer-text buffer))))))

;;;; Cancelling, dying

(defun rlm-test-model-cell (code)
  "Return rules for a root model that replies with CODE."
  (vector (list :role "root" :reply (concat "Now.\n\n```repl\n" code "\n```\n"))))

(defconst rlm-test-endless
  "answer[\"content\"] = \"so far\"\nprint(\"begun\", len(context))\nwhile True: pass"
  "Code that says that it has begun and never ends.")

(ert-deftest rlm-e2e-cancel-in-mid-cell ()
  (rlm-test-with-models (rlm-test-model-cell rlm-test-endless)
    (let ((buffer (rlm-ask-files "What?" (list (rlm-test-tree)))))
      (rlm-test-wait-text buffer "^begun")
      (with-current-buffer buffer
        (call-interactively #'rlm-cancel))
      (let ((run (rlm-test-wait-end buffer)))
        (should (equal "cancelled" (rlm-run-status run)))
        (should (string-match-p "^\\*\\* Cancelled$" (rlm-test-text (rlm-run-transcript run))))))))

(ert-deftest rlm-e2e-limits-change-while-the-run-goes-on ()
  (rlm-test-with-models (rlm-test-model-cell rlm-test-endless)
    (let ((buffer (rlm-ask-files "What?" (list (rlm-test-tree)))))
      (rlm-test-wait-text buffer "^begun")
      (with-current-buffer buffer
        (rlm-set-limits rlm-run-current '(:cost 2.5))
        (rlm-test-wait-text buffer "^- \\*Limits\\*: cost \\$2.50, was no limit$")
        (rlm-set-limits rlm-run-current '(:seconds 0.01)))
      (let ((run (rlm-test-wait-end buffer)))
        (should (equal '("limit" "so far") (list (rlm-run-status run) (rlm-run-answer run))))
        (should-error (rlm-set-limits run '(:seconds 9)) :type 'user-error)))))

(ert-deftest rlm-e2e-cancel-only-the-cell ()
  (rlm-test-with-models
      (vector (list :role "root" :times 1
                    :reply (format "```repl\n%s\n```\n" rlm-test-endless))
              (list :role "root"
                    :reply "```repl\nFINAL(f\"after {len(context)}\")\n```\n"))
    (let ((buffer (rlm-ask-files "What?" (list (rlm-test-tree)))))
      (rlm-test-wait-text buffer "^begun")
      (with-current-buffer buffer
        (let ((current-prefix-arg '(4)))
          (call-interactively #'rlm-cancel)))
      (let ((run (rlm-test-wait-end buffer)))
        (rlm-test-should-be-done run)
        (should (string-match-p "^\\*Code: cancelled\\*" (rlm-test-buffer-text buffer)))
        (should (string-match-p "\\`after [0-9]+\\'" (rlm-run-answer run)))))))

(ert-deftest rlm-e2e-killed-server-is-told-and-the-next-question-works ()
  (rlm-test-with-models
      (vector (list :role "root" :match "endless"
                    :reply (format "```repl\n%s\n```\n" rlm-test-endless)))
    (let* ((tree (rlm-test-tree))
           (buffer (rlm-ask-files "endless" (list tree))))
      (rlm-test-wait-text buffer "^begun")
      (signal-process (rlm-rpc-process) 'SIGKILL)
      (let ((run (rlm-test-wait-end buffer)))
        (should (equal "interrupted" (rlm-run-status run)))
        (should (string-match-p "killed by signal 9" (rlm-test-buffer-text buffer)))
        (should (string-match-p "^:RLM_STATUS: interrupted" (rlm-test-text (rlm-run-transcript run))))
        ;; The log is whole: redrawn, it shows what was shown before.
        (let ((before (rlm-test-buffer-text buffer))
              (root-model "offline/extractive"))
          (setq rlm-root-model root-model)
          (unwind-protect
              (rlm-test-should-be-done
               (rlm-test-wait-end (rlm-ask-files rlm-test-keeper (list tree))))
            (setq rlm-root-model nil))
          (with-current-buffer buffer (rlm-redraw))
          (rlm-test-wait-text buffer "its server died")
          (let ((cut (lambda (text) (substring text 0 (string-match "^\\*\\* Interrupted" text))))
                (strip (lambda (text)
                         (replace-regexp-in-string "^:RLM_\\(SECONDS\\|COST\\|TOKENS\\).*\n" ""
                                                   text))))
            (should (equal (funcall strip (funcall cut before))
                           (funcall strip (funcall cut (rlm-test-buffer-text buffer)))))))))))

;;;; Drawing again

(ert-deftest rlm-e2e-run-is-redrawn-as-it-was ()
  (rlm-test-with
    (let* ((buffer (rlm-ask-files rlm-test-keeper (list (rlm-test-tree))))
           (run (rlm-test-wait-end buffer))
           (text (rlm-test-buffer-text buffer))
           (transcript (rlm-run-transcript run))
           (saved (file-attribute-modification-time (file-attributes transcript))))
      (should (equal (concat text rlm-transcript-tail) (rlm-test-text transcript)))
      (with-current-buffer buffer (rlm-redraw))
      (rlm-test-wait (lambda () (not (eq run (rlm-run-in-buffer buffer)))))
      (rlm-test-wait-end buffer)
      (should (equal text (rlm-test-buffer-text buffer)))
      (kill-buffer buffer)
      (cl-letf (((symbol-function 'completing-read)
                 (lambda (_ table &rest _) (car (all-completions "" table)))))
        (setq buffer (call-interactively #'rlm-open-run)))
      (should (equal (rlm-run-id run) (rlm-run-id (rlm-test-wait-end buffer))))
      (should (equal transcript (rlm-run-transcript (rlm-run-in-buffer buffer))))
      (should (equal saved (file-attribute-modification-time (file-attributes transcript))))
      (should (equal (substring text (string-match "^\\* " text))
                     (let ((again (rlm-test-buffer-text buffer)))
                       (substring again (string-match "^\\* " again))))))))

(ert-deftest rlm-e2e-live-run-is-redrawn-and-goes-on ()
  (rlm-test-with-models (rlm-test-model-cell rlm-test-endless)
    (let* ((buffer (rlm-ask-files "What?" (list (rlm-test-tree))))
           (run (rlm-run-in-buffer buffer)))
      (rlm-test-wait-text buffer "^begun")
      (with-current-buffer buffer
        (goto-char (point-max))
        (rlm-redraw))
      (rlm-test-wait (lambda () (not (eq run (rlm-run-in-buffer buffer)))))
      (rlm-test-wait-text buffer "^begun")
      (with-current-buffer buffer
        (should (rlm-run-live-p rlm-run-current))
        ;; Who has followed it still does.
        (should (eobp))
        (call-interactively #'rlm-cancel))
      (should (equal "cancelled" (rlm-run-status (rlm-test-wait-end buffer))))
      (should (= 1 (rlm-test-how-many buffer "^\\*\\* Iteration 1"))))))

(ert-deftest rlm-e2e-bookmark-link-and-desktop-lead-back ()
  (rlm-test-with
    (let* ((buffer (rlm-ask-files rlm-test-keeper (list (rlm-test-tree))))
           (run (rlm-test-wait-end buffer))
           (link (format "rlm:%s#0.1" (rlm-run-id run)))
           (there (lambda ()
                    (rlm-test-wait (lambda () (looking-at "\\*\\* Iteration 1")) "place")
                    (should (equal (rlm-run-id run) (rlm-run-id rlm-run-current)))
                    (should (string-prefix-p (format "*rlm: %s" rlm-test-keeper) (buffer-name)))
                    (save-excursion
                      (goto-char (point-min))
                      (should (search-forward (concat "\n* " rlm-test-keeper "\n"))))
                    (kill-buffer)))
           bookmark data)
      (with-current-buffer buffer
        (goto-char (point-min))
        (re-search-forward "^:RLM_NODE: 0\\.1$")
        (setq bookmark (cons "x" (cdr (bookmark-make-record)))
              data (funcall desktop-save-buffer nil))
        ;; Drawn anew it shows the same place.
        (revert-buffer)
        (rlm-test-wait (lambda () (looking-at "\\*\\* Iteration 1")) "place")
        (should-not (eq run rlm-run-current))
        ;; Also where that is the question, which is no node of the log.
        (rlm-test-wait-end buffer)
        (goto-char (point-min))
        (re-search-forward "^Context: ")
        (setq run rlm-run-current)
        (revert-buffer)
        (rlm-test-wait (lambda () (not (eq run rlm-run-current))) "the other")
        (rlm-test-wait-end buffer)
        (should (looking-at (concat "\\* " rlm-test-keeper))))
      (kill-buffer buffer)
      (save-window-excursion
        (delete-other-windows)
        (bookmark-jump bookmark)
        (should (one-window-p))
        (funcall there)
        (org-link-open-from-string link)
        (set-buffer (window-buffer))
        (funcall there)
        (set-buffer (rlm-restore-desktop nil "x" data))
        (funcall there)
        ;; Where no server can be started, it is not as if a question were asked.
        (rlm-rpc-stop)
        (let ((rlm-server-command '("/is/not/there")))
          (set-buffer (rlm-restore-desktop nil "x" data)))
        (should (equal "failed" (rlm-run-status rlm-run-current)))
        (should (string-match-p "/is/not/there" (buffer-string)))
        (revert-buffer)
        (funcall there)))))

(defun rlm-test-how-many (buffer regexp)
  "Return how many matches for REGEXP are in BUFFER."
  (with-current-buffer buffer
    (how-many regexp (point-min) (point-max))))

;;;; The server

(ert-deftest rlm-e2e-status-lists-the-models ()
  (rlm-test-with
    (rlm-status)
    (rlm-test-wait (lambda () (get-buffer rlm-doctor--status-buffer)))
    (rlm-test-wait-text rlm-doctor--status-buffer "offline/extractive.*embedded")))

(ert-deftest rlm-e2e-server-over-tcp-outlives-the-connection ()
  (rlm-test-with
    (let* ((token (rlm-test-file "token"))
           (output "")
           (default-directory rlm-test-root)
           (process (make-process
                     :name "rlm tcp" :noquery t :connection-type 'pipe :stderr nil
                     :command (list rlm-test-python "-m" "rlm_server" "--tcp" "127.0.0.1:0"
                                    "--token-file" token)
                     :filter (lambda (_ text) (setq output (concat output text))))))
      (unwind-protect
          (progn
            (rlm-test-wait (lambda () (string-match "127\\.0\\.0\\.1:[1-9][0-9]*" output)) "port")
            (setq rlm-server-address (match-string 0 output)
                  rlm-server-token-file token)
            (rlm-test-should-be-done
             (rlm-test-wait-end (rlm-ask-files rlm-test-keeper (list (rlm-test-tree)))))
            (rlm-rpc-stop)
            (should (process-live-p process))
            (rlm-test-should-be-done
             (rlm-test-wait-end (rlm-ask-files rlm-test-keeper (list (rlm-test-tree)))))
            (rlm-rpc-stop)
            (setq rlm-server-token-file (rlm-test-file "wrong" "wrong\n"))
            (let ((buffer (rlm-ask-files rlm-test-keeper (list (rlm-test-tree)))))
              (should (equal "failed" (rlm-run-status (rlm-test-wait-end buffer))))
              (should (string-match-p "token" (rlm-test-buffer-text buffer)))))
        (setq rlm-server-address nil rlm-server-token-file nil)
        (delete-process process)))))

;;;; The demo

(ert-deftest rlm-e2e-demo-prints-answer-evidence-figures-and-transcript ()
  (rlm-test-with
    (with-temp-buffer
      (let* ((process-environment
              (append (list (concat "RLM_DEMO_DIR=" (rlm-test-tree))
                            (concat "RLM_DEMO_QUESTION=" rlm-test-keeper)
                            (concat "RLM_SERVER_PYTHON=" rlm-test-python))
                      process-environment))
             (status (call-process (expand-file-name invocation-name invocation-directory)
                                   nil t nil "-Q" "--batch"
                                   "-L" (expand-file-name "elisp" rlm-test-root)
                                   "-l" "rlm-demo" "-f" "rlm-demo-batch"))
             (text (buffer-string)))
        (should (equal '(0 nil) (list status (unless (eql status 0) text))))
        (dolist (regexp '("Odalys" "harbour\\.txt:2" "^Figures: [0-9]+ iterations" "^Log: /"))
          (should (string-match-p regexp text)))
        (should (string-match "^Transcript: \\(.*\\.org\\)$" text))
        (should (file-exists-p (match-string 1 text)))))))

(ert-deftest rlm-e2e-demo-fails-where-there-is-no-answer ()
  (rlm-test-with
    (let ((process-environment
           (append (list (concat "RLM_DEMO_DIR=" rlm-test-directory)
                         "RLM_SERVER_PYTHON=/is/not/there")
                   process-environment)))
      (should (eql 1 (call-process (expand-file-name invocation-name invocation-directory)
                                   nil nil nil "-Q" "--batch"
                                   "-L" (expand-file-name "elisp" rlm-test-root)
                                   "-l" "rlm-demo" "-f" "rlm-demo-batch"))))))

;;;; Learning

(ert-deftest rlm-e2e-accepted-notes-of-marked-runs-are-told-to-models ()
  (rlm-test-with
    (let ((tree (rlm-test-tree))
          (marks (rlm-test-file "state/marks.jsonl")))
      (dotimes (_ 3)
        (let ((run (rlm-test-wait-end (rlm-ask-files rlm-test-keeper (list tree)))))
          (rlm-mark-good (rlm-run-id run) "found \"it\"")))
      (rlm-test-wait (lambda () (and (file-exists-p marks)
                                     (= 3 (length (split-string (rlm-test-text marks) "\n" t)))))
                     "three marks")
      (should (equal '(t "found \"it\"")
                     (let ((mark (plist-get (elt (plist-get (rlm-rpc-call 'rlm/runs nil) :runs) 0)
                                            :mark)))
                       (list (plist-get mark :good) (plist-get mark :reason)))))
      (rlm-test-keys "C-c r n")
      (let ((buffer (rlm-test-wait (lambda () (get-buffer "*rlm notes*")) "proposal")))
        (with-current-buffer buffer
          (should-error (rlm-test-keys "C-c C-c") :type 'user-error)
          (should (string-match-p "^\\[not accepted\\] " (buffer-string)))
          (should (string-match-p "^\\+- Filter: " (buffer-string)))
          (rlm-test-keys "g")
          (rlm-test-wait (lambda () (get-text-property (point) 'rlm-reflect-change)))
          (let ((first (point)))
            (rlm-test-keys "n")
            (should (> (point) first))
            (rlm-test-keys "p")
            (should (= (point) first)))
          (re-search-forward "^\\+- Filter: ")
          (rlm-test-keys "a")
          (should (= 1 (how-many "^\\[accepted\\]" (point-min))))
          (save-window-excursion
            (rlm-test-keys "e")
            (should (equal (rlm-test-file "notes.md") (buffer-file-name (window-buffer)))))
          (rlm-test-keys "C-c C-c"))
        (rlm-test-wait (lambda () (not (buffer-live-p buffer))) "changes made"))
      (let ((notes (rlm-test-text (rlm-test-file "notes.md"))))
        (should (string-match-p "^- Filter: " notes))
        (should-not (string-match-p "^- Proof: " notes)))
      (let ((buffer (rlm-ask-files rlm-test-keeper (list tree))))
        (rlm-test-wait-end buffer)
        (should (string-match-p "Strategy notes are used: Filter: " (rlm-test-buffer-text buffer))))
      (let* ((rlm-use-notes nil)
             (buffer (rlm-ask-files rlm-test-keeper (list tree))))
        (rlm-test-wait-end buffer)
        (should-not (string-match-p "Strategy notes" (rlm-test-buffer-text buffer)))))))

(provide 'rlm-e2e-test)
;;; rlm-e2e-test.el ends here
